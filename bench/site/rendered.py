"""Settings of the rendered project, with the jobs of the measurements."""

import os
from importlib import import_module

globals().update(vars(import_module(f"{os.environ['BENCH_SLUG']}.settings")))
INSTALLED_APPS = [*globals()["INSTALLED_APPS"], "load"]
