"""The worker: its Procrastinate app, and in the modules of this package its thin tasks.

It runs as

    PYTHONPATH=. procrastinate --app=tasks.app worker

Nothing imports this package but the worker: Django defers through the apps' bridges.
"""

import os
import pkgutil
from typing import Any, Unpack

import django
from asgiref.sync import ThreadSensitiveContext
from django.apps import apps
from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import connections
from procrastinate import JobContext, PsycopgConnector
from procrastinate.app import WorkerOptions
from procrastinate.contrib.django import DjangoApp, connector_params
from procrastinate.middleware import AsyncCallNext
from procrastinate.worker import Worker
from psycopg import AsyncConnection

from jobs.failures import keep_failures
from jobs.logs import with_job

SETTINGS = "{{ cookiecutter.project_slug }}.settings"

if not apps.ready:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", SETTINGS)
    # Procrastinate's command line imports this module on its event loop, where Django
    # would forbid an app's ready() to query the database.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "on"
    django.setup()
    connections.close_all()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


async def own_thread(
    call_next: AsyncCallNext, context: JobContext, worker: Worker
) -> Any:
    """Run each async job's Django calls in a thread of its own.

    Jobs would otherwise share one thread and so one database connection, which the
    first to end closes under the others.
    """
    async with ThreadSensitiveContext():
        return await call_next()


async def configure(connection: AsyncConnection[Any]) -> None:
    """Spare the worker's queries BEGIN and COMMIT, and a sort to find the next job.

    Each query is a transaction by itself, and an index has the waiting jobs in order:
    without statistics, in a new database, PostgreSQL would sort all of them each time.
    """
    await connection.set_autocommit(True)
    await connection.execute("SET enable_sort = off")


def make_connector() -> PsycopgConnector:
    """Return the worker's own connections, to the database of the settings.

    They go round a pooler if WORKER_DATABASE_URL is set: LISTEN does not pass one.
    """
    if url := settings.WORKER_DATABASE_URL:
        return PsycopgConnector(conninfo=url, configure=configure)
    return PsycopgConnector(kwargs=connector_params(), configure=configure)


class WorkerApp(DjangoApp):
    """Refuses to work while `manage.py check` finds errors in the jobs."""

    async def run_worker_async(self, **kwargs: Unpack[WorkerOptions]) -> None:
        """Check the jobs, then run a worker.

        Raises:
            SystemCheckError: The bridges and the tasks disagree.
        """
        # Not for a worker within another process: a test may know few of the tasks.
        if kwargs.get("install_signal_handlers", True):
            BaseCommand().check(tags=["jobs"])
        await super().run_worker_async(**kwargs)


app = WorkerApp(
    connector=make_connector(),
    import_paths=[
        module.name for module in pkgutil.iter_modules(__path__, f"{__name__}.")
    ],
    worker_defaults={
        "concurrency": settings.WORKER_CONCURRENCY,
        # Retried jobs are found by polling alone.
        "fetch_job_polling_interval": 1.0,
        # Below the 30 seconds that most platforms give a process to end.
        "shutdown_graceful_timeout": 20.0,
        "worker_middleware": [with_job, own_thread, keep_failures],
    },
)
