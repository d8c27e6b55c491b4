import atexit
from typing import Any, NoReturn

from django.apps import AppConfig
from django.db import connection
from procrastinate import App


class JobsConfig(AppConfig):
    name = "jobs"

    def ready(self) -> None:
        """Register the checks, and let processes end at once."""
        from . import checks  # noqa: F401

        # Python 3.13 waits at exit for the threads of a pool that nobody closed.
        atexit.register(connection.close_pool)  # type: ignore[attr-defined]


def forbid_worker(app: App) -> None:
    """Let Django's own app, which has no tasks and would fail all jobs, run none.

    Args:
        app: That app, when it is ready. ``manage.py procrastinate worker`` runs it.
    """

    async def refuse(**options: Any) -> NoReturn:
        raise RuntimeError(
            "This would be a worker without tasks. "
            "Run PYTHONPATH=. procrastinate --app=tasks.app worker"
        )

    app.run_worker_async = refuse  # type: ignore[method-assign]
