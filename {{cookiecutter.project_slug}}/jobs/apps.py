import atexit
from typing import Any, NoReturn

from django.apps import AppConfig
from django.db import connection
from django.db.backends.signals import connection_created
from procrastinate import App


class JobsConfig(AppConfig):
    name = "jobs"

    def ready(self) -> None:
        """Register the checks, and look after the connection pool."""
        from . import checks, sessions  # noqa: F401

        connection_created.connect(sessions.leave_read_only_server)
        # Otherwise Python 3.13 would wait at exit for the pool's threads.
        atexit.register(connection.close_pool)  # type: ignore[attr-defined]


def forbid_worker(app: App) -> None:
    """Keep Django's own app from running jobs: it has no tasks, so all would fail.

    Args:
        app: Django's own app, which ``manage.py procrastinate worker`` would run.
    """

    async def refuse(**options: Any) -> NoReturn:
        raise RuntimeError(
            "This would be a worker without tasks. "
            "Run PYTHONPATH=. procrastinate --app=tasks.app worker"
        )

    app.run_worker_async = refuse  # type: ignore[method-assign]
