"""Settings of the Django project that the other queues run in, one queue at a time."""

import json
import os

from psycopg.conninfo import conninfo_to_dict

SECRET_KEY = "bench"
database = conninfo_to_dict(os.environ["DATABASE_URL"])
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": database["dbname"],
        "USER": database["user"],
        "HOST": database["host"],
        "PORT": database["port"],
        # Persistent connections, as in most production settings.
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", *json.loads(os.environ["BENCH_APPS"]), "load"]
# The queue's own.
globals().update(json.loads(os.environ["BENCH_SETTINGS"]))
