"""The worker's Procrastinate app: how it connects, and what it does around each job."""

from __future__ import annotations

import logging
import os
import pkgutil
import sys
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Unpack

import django
from asgiref.sync import ThreadSensitiveContext
from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand
from django.db import connections
from procrastinate import App, JobContext, PsycopgConnector
from procrastinate.app import WorkerOptions
from procrastinate.connector import BaseAsyncConnector
from procrastinate.contrib.django import connector_params
from procrastinate.middleware import AsyncCallNext, WorkerMiddleware
from procrastinate.worker import Worker
from psycopg import AsyncConnection

from . import bridge, upstream
from .failures import store_failures
from .logs import with_job
from .supervision import remember_thread

TASKS = "tasks"
"""The package that has the worker's app and its tasks."""

logger = logging.getLogger(__name__)

ASYNC_UNSAFE = "DJANGO_ALLOW_ASYNC_UNSAFE"


def setup(settings_module: str) -> None:
    """Call ``django.setup()``, unless Django is set up already.

    Args:
        settings_module: The settings to use if the environment names none.
    """
    if apps.ready:
        return
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", settings_module)
    # Procrastinate's command line imports the worker's app on its event loop, where
    # Django would not let an app's ready() query the database.
    before = os.environ.get(ASYNC_UNSAFE)
    os.environ[ASYNC_UNSAFE] = "on"
    try:
        django.setup()
        connections.close_all()
    finally:
        if before is None:
            del os.environ[ASYNC_UNSAFE]
        else:
            os.environ[ASYNC_UNSAFE] = before


def make_app(
    package: str,
    *,
    connector: BaseAsyncConnector | None = None,
    middleware: Iterable[WorkerMiddleware] = (),
) -> WorkerApp:
    """Return the worker's app.

    Args:
        package: The package whose modules have the tasks.
        connector: How the worker connects; by default with psycopg, see
            `make_connector`.
        middleware: Worker middlewares that run around the machinery's own. With any,
            lanes take no jobs.
    """
    # Its models need Django's app registry, so `setup` must have run.
    from . import upkeep

    path = sys.modules[package].__path__
    middleware = list(middleware)
    app = WorkerApp(
        # Middlewares run on the event loop, so they would miss the jobs of a lane.
        lanes=settings.JOBS_LANES and not middleware,
        connector=connector or make_connector(),
        import_paths=[
            f"{package}.{module.name}" for module in pkgutil.iter_modules(path)
        ],
        worker_defaults={
            "concurrency": settings.WORKER_CONCURRENCY,
            # Retried jobs are found by polling alone.
            "fetch_job_polling_interval": 1.0,
            # Less than the 30 seconds that most platforms give a process to end.
            "shutdown_graceful_timeout": 20.0,
            "worker_middleware": [*middleware, with_job, own_thread, store_failures],
            "task_middleware": [remember_thread],
        },
    )
    upkeep.add_to(app)
    if has_django_tasks():
        from .tasks_backend import worker

        worker.add_to(app)
    return app


def make_connector() -> PsycopgConnector:
    """Return the worker's own connector, to the database in the settings.

    WORKER_DATABASE_URL, if set, must bypass a pooler: LISTEN does not work through one.
    """
    if url := settings.WORKER_DATABASE_URL:
        return PsycopgConnector(conninfo=url, configure=prepare_connection)
    return PsycopgConnector(kwargs=connector_params(), configure=prepare_connection)


async def prepare_connection(connection: AsyncConnection[Any]) -> None:
    """Turn on autocommit, and keep PostgreSQL from sorting to find the next job.

    Autocommit saves each query a BEGIN and a COMMIT. An index has the waiting jobs in
    order, but without statistics, as in a new database, PostgreSQL would read and sort
    all of them instead.
    """
    await connection.set_autocommit(True)
    await connection.execute("SET enable_sort = off")


async def own_thread(
    call_next: AsyncCallNext, context: JobContext, worker: Worker
) -> Any:
    """Run each async job's Django calls in a thread of its own.

    Jobs would otherwise share one thread and so one database connection, which the
    first job to end closes under the others.
    """
    async with ThreadSensitiveContext():
        return await call_next()


class WorkerApp(upstream.WorkerApp):
    """The app of the project's worker.

    Args:
        lanes: Whether lanes run sync jobs, see `jobs.lanes`.
    """

    def __init__(self, *, lanes: bool, **options: Any) -> None:
        super().__init__(**options)
        self.lanes = lanes

    def make_worker(self, **options: Any) -> Worker:
        """Return a worker with supervision and lanes, which also does maintenance.

        Raises:
            ImproperlyConfigured: There are atomic jobs, but with this version of
                Procrastinate they would not be atomic.
        """
        from .lanes import LaneWorker

        if queues := options.get("queues"):
            options["queues"] = [*queues, bridge.MAINTENANCE_QUEUE]
        if missing := ", ".join(upstream.missing_names()):
            logger.warning(
                "Procrastinate's own worker runs, without lanes, supervision and pauses: "
                "this version of Procrastinate was not tested (it lacks %s)",
                missing,
            )
            # Django's atomic tasks would fail one by one, see jobs.tasks_backend.
            if atomic := [
                job.name
                for job in bridge.declared.values()
                if job.atomic and job.name != "django.atomic_task"
            ]:
                raise ImproperlyConfigured(
                    f"{', '.join(atomic)} would not be atomic: install a version of "
                    "Procrastinate that was tested."
                )
            return super().make_worker(**options)
        return LaneWorker(app=self, lanes=self.lanes, **options)

    async def run_worker_async(self, **kwargs: Unpack[WorkerOptions]) -> None:
        """Check the jobs, and run a worker unless ``manage.py check`` finds errors.

        Raises:
            SystemCheckError: The bridges and the tasks disagree.
        """
        # Not inside another process, such as a test that has only some of the tasks.
        if kwargs.get("install_signal_handlers", True):
            BaseCommand().check(tags=["jobs"])
        await super().run_worker_async(**kwargs)


def has_django_tasks() -> bool:
    """Tell if there is `django.tasks`, or for Django 5.2 the package django-tasks."""
    return django.VERSION >= (6, 0) or find_spec("django_tasks") is not None


def find_app() -> App:
    """Return the worker's app. Nothing else in Django imports the worker's package.

    Its tasks may not be loaded yet: ``perform_import_paths()`` loads them.
    """
    app: App = import_module(TASKS).app
    return app
