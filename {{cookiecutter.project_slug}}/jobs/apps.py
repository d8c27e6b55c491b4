from typing import Any, NoReturn

from django.apps import AppConfig
from procrastinate import App


class JobsConfig(AppConfig):
    name = "jobs"

    def ready(self) -> None:
        """Register the checks."""
        from . import checks  # noqa: F401


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
