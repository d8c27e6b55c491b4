"""Settings of the rendered project with the measurements' jobs, or a variant of them."""

import os
from importlib import import_module

globals().update(vars(import_module(f"{os.environ['BENCH_SLUG']}.settings")))
INSTALLED_APPS = [*globals()["INSTALLED_APPS"], "load"]
DATABASE = globals()["DATABASES"]["default"]
match os.environ.get("BENCH_VARIANT"):
    case "persistent":
        del DATABASE["OPTIONS"]["pool"]
        DATABASE["CONN_MAX_AGE"] = 60
    case "reconnect":
        del DATABASE["OPTIONS"]["pool"]
    case "no lanes":
        globals()["JOBS_LANES"] = False
    case "quiet":
        globals()["LOGGING"]["root"]["level"] = "WARNING"
