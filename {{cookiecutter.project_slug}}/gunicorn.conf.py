"""gunicorn's settings: PORT and WEB_CONCURRENCY come from the environment.

https://gunicorn.org/reference/settings/
"""

# Loads the settings once: a missing variable is reported once, and gunicorn ends.
preload_app = True
# Requests mostly wait for the database, and threads are cheaper than processes.
threads = 4
# Below the 30 seconds that most platforms give a process to end.
graceful_timeout = 20
accesslog = "-"
# The control socket would need a writable home directory.
control_socket_disable = True
