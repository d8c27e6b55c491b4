"""The app of the jobs."""

import os
from importlib import import_module

from django.apps import AppConfig


class LoadConfig(AppConfig):
    """Loads the module of the measured queue."""

    name = "load"

    def ready(self) -> None:
        """Import the queue's module, as an app's models or tasks would be."""
        import_module(f"load.queues.{os.environ['BENCH_QUEUE']}")
