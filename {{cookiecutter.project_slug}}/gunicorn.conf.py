"""gunicorn's settings: PORT and WEB_CONCURRENCY come from the environment.

https://gunicorn.org/reference/settings/
"""

# Load the settings once: gunicorn reports a missing variable once and exits.
preload_app = True
# Requests mostly wait for the database, and threads are cheaper than processes.
threads = 4
# Most platforms kill a process 30 seconds after they ask it to stop.
graceful_timeout = 20
# The control socket would need a writable home directory.
control_socket_disable = True
