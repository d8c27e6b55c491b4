"""gunicorn's settings: PORT and WEB_CONCURRENCY come from the environment.

https://gunicorn.org/reference/settings/
"""

# Loads the settings once, so that a missing variable is one sentence and one exit.
preload_app = True
# Requests wait for the database most of the time; a thread is cheaper than a process.
threads = 4
# Below the 30 seconds that most platforms give a process to end.
graceful_timeout = 20
accesslog = "-"
# It would want a writable home directory.
control_socket_disable = True
