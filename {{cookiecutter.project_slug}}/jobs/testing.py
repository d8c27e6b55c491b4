"""The test kit, also a pytest plugin: are jobs deferred, and what do they do?

In any test, without a worker::

    assert_deferred(tasks.send_receipt, order_id=order.pk)
    assert_enqueued(resize, image.pk)  # a task of django.tasks
    perform_job(tasks.send_receipt, order_id=order.pk)

With a worker, in a test that is marked ``django_db(transaction=True)``::

    assert drain_queue() == {"succeeded": 2}
"""

import asyncio
import inspect
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NoReturn, ParamSpec
from unittest import mock
from urllib.parse import urlsplit

import psycopg
import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.conf import settings
from django.db import connection
from django.db.models.signals import post_migrate
from django.dispatch import receiver
from procrastinate import App, JobContext, PsycopgConnector
from procrastinate.connector import BaseAsyncConnector
from procrastinate.contrib.django import connector_params
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.exceptions import TaskNotFound
from procrastinate.middleware import AsyncCallNext
from procrastinate.worker import Worker as ProcrastinateWorker
from psycopg.conninfo import conninfo_to_dict

from . import upstream
from .bridge import Job
from .worker import find_app

P = ParamSpec("P")
Wait = Callable[[Callable[[], object]], None]
Worker = Callable[..., AbstractContextManager[subprocess.Popen[bytes]]]


def assert_deferred(job: Job[...], **arguments: object) -> ProcrastinateJob:
    """Assert that a job waits in the queue.

    Args:
        job: The declared job.
        arguments: The arguments to compare; the others may have any value.

    Returns:
        The oldest such job, for assertions about its ``queue_name``,
        ``scheduled_at`` and so on.

    Raises:
        TypeError: The job has no such argument.
    """
    __tracebackhide__ = True
    found = _waiting(job, arguments)
    assert found, f"{_call(job.name, (), arguments)} is not in the queue. {_queue()}"
    return found[0]


def refute_deferred(job: Job[...], **arguments: object) -> None:
    """Assert that a job does not wait in the queue, see `assert_deferred`."""
    __tracebackhide__ = True
    found = _waiting(job, arguments)
    assert not found, f"{_call(job.name, (), arguments)} is in the queue. {_queue()}"


def assert_enqueued(task: Any, *args: object, **kwargs: object) -> Any:
    """Assert that a task of `django.tasks` waits in the queue.

    Args:
        task: The task.
        args, kwargs: The arguments to compare; the others may have any value.

    Returns:
        The result of the oldest such call, for assertions about its ``task`` and so on.

    Raises:
        TypeError: The task has no such argument.
    """
    __tracebackhide__ = True
    found = _enqueued(task, args, kwargs)
    call = _call(task.module_path, args, kwargs)
    assert found, f"{call} is not in the queue. {_queue()}"
    return task.get_result(str(found[0].pk))


def refute_enqueued(task: Any, *args: object, **kwargs: object) -> None:
    """Assert that a task does not wait in the queue, see `assert_enqueued`."""
    __tracebackhide__ = True
    found = _enqueued(task, args, kwargs)
    call = _call(task.module_path, args, kwargs)
    assert not found, f"{call} is in the queue. {_queue()}"


def perform_job(job: Job[P], *args: P.args, **kwargs: P.kwargs) -> Any:
    """Run a job's body at once, in the test's own transaction.

    The arguments are checked against the declaration, and pass through JSON on their
    way to the body, as they do in the queue.

    Returns:
        What the body returns.

    Raises:
        TypeError: It is no declared job, or the arguments do not match.
    """
    _check_declared(job, "call its call() or acall(), or drain_queue()")
    arguments = json.loads(json.dumps(job.call(*args, **kwargs).arguments))
    app = worker_app()
    task = app.tasks[job.name]
    body: Callable[..., Any] = task.func
    if inspect.iscoroutinefunction(body):
        body = async_to_sync(body)
    if not task.pass_context:
        return body(**arguments)
    row = upstream.QueueRow(
        queue=job.queue,
        lock=None,
        queueing_lock=None,
        task_name=job.name,
        task_kwargs=arguments,
    )
    context = JobContext(
        app=app, job=row, start_timestamp=time.time(), abort_reason=lambda: None
    )
    return body(context, **arguments)


def drain_queue(*, raises: bool = True) -> Counter[str]:
    """Run the jobs that are due, and those that they defer, in a real worker.

    It runs in this process, one job at a time, and without the periodic tasks.

    Args:
        raises: Whether to raise the first error of a job. Otherwise it is only counted.

    Returns:
        How many jobs of each status there are, as in ``{"succeeded": 2, "todo": 1}``.

    Raises:
        RuntimeError: The test runs in a transaction, or on another database.
        TaskNotFound: The worker has no task for a job.
    """
    __tracebackhide__ = True
    if connection.in_atomic_block:
        raise RuntimeError(
            "a worker sees only what is committed:"
            " mark the test with django_db(transaction=True)"
        )
    app = worker_app()
    errors: list[Exception] = []

    async def keep_errors(
        call_next: AsyncCallNext, context: JobContext, worker: ProcrastinateWorker
    ) -> Any:
        try:
            return await call_next()
        except Exception as error:
            errors.append(error)
            raise

    async def drain() -> None:
        async with app.open_async():
            query = "SELECT current_database() AS name"
            row = await app.connector.execute_query_one_async(query)
            _check_database(row["name"])
            await app.run_worker_async(
                # With more, it could stop before a running job defers another.
                concurrency=1,
                wait=False,
                listen_notify=False,
                install_signal_handlers=False,
                worker_middleware=[
                    *app.worker_defaults.get("worker_middleware", []),
                    keep_errors,
                ],
            )

    with (
        app.replace_connector(PsycopgConnector(kwargs=connector_params())),
        mock.patch.dict(upstream.periodic_tasks(app), clear=True),
    ):
        asyncio.run(drain())
    rows = list(ProcrastinateJob.objects.values_list("task_name", "status"))
    if unknown := {name for name, _ in rows} - app.tasks.keys():
        raise TaskNotFound(f"the worker has no task for {min(unknown)}")
    if raises and errors:
        raise errors[0]
    return Counter(status for _, status in rows)


@pytest.fixture
def worker(transactional_db: None) -> Worker:
    """Start real worker processes on the tests' database."""
    database = connection.settings_dict["NAME"]
    url = urlsplit(settings.DATABASE_URL)._replace(path=f"/{database}").geturl()
    command = [sys.executable, "-m", "procrastinate", "--app=tasks.app", "worker"]

    @contextmanager
    def start(*options: str) -> Generator[subprocess.Popen[bytes]]:
        environment = {**os.environ, "DATABASE_URL": url, "WORKER_DATABASE_URL": url}
        process = subprocess.Popen(
            [*command, *options], cwd=settings.BASE_DIR, env=environment
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)

    return start


@pytest.fixture
def wait_until() -> Wait:
    """Wait for a condition, for 30 seconds at most."""

    def wait(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, "it did not happen within 30 seconds"
            time.sleep(0.05)

    return wait


def worker_app() -> App:
    """Return the worker's app, with its tasks."""
    app = find_app()
    app.perform_import_paths()  # type: ignore[no-untyped-call]
    return app


class _NoConnector(BaseAsyncConnector):
    async def open_async(self, pool: object = None) -> NoReturn:
        raise RuntimeError("tests run the worker with drain_queue, on their database")


@pytest.fixture(scope="session", autouse=True)
def no_worker_elsewhere() -> Iterator[None]:
    """Keep the worker's app from using the database in the settings."""
    with worker_app().replace_connector(_NoConnector()):
        yield


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> Iterator[None]:
    """End the sessions that are left, so that the test database can be dropped.

    A pool that closes before it has reset a session leaves it open, and Django closes
    the pool whenever a test changes TIME_ZONE.
    """
    yield
    connection.close()
    connection.close_pool()  # type: ignore[attr-defined]
    with psycopg.connect(**connector_params()) as session:
        session.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND usename = current_user"
            " AND pid != pg_backend_pid()"
        )


@receiver(post_migrate, sender=apps.get_app_config("procrastinate"))
def empty_queue(**kwargs: Any) -> None:
    """Empty the queue after each test that commits.

    Django's flush sends this signal, and empties only the tables that Django manages.
    """
    _check_database(connection.settings_dict["NAME"])
    models = apps.get_app_config("procrastinate").get_models()
    tables = ", ".join(model._meta.db_table for model in models)
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {tables}")


def _check_database(name: str) -> None:
    """Raise an error unless it is the database that was made for the tests."""
    site = conninfo_to_dict(settings.DATABASE_URL).get("dbname")
    if name == site or name != connection.settings_dict["NAME"]:
        raise RuntimeError(f"{name} is not the tests' database")


def _check_declared(job: object, instead: str) -> None:
    """Raise an error for a task of `django.tasks`."""
    if not isinstance(job, Job):
        name = getattr(job, "module_path", job)
        raise TypeError(f"{name} is a task, not a declared job: {instead}")


def _waiting(job: Job[...], arguments: Mapping[str, object]) -> list[ProcrastinateJob]:
    _check_declared(job, "use assert_enqueued() or refute_enqueued()")
    parameters = job.signature.parameters.values()
    job.signature.bind_partial(**arguments)
    wanted = json.loads(json.dumps(arguments))
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    rows = ProcrastinateJob.objects.filter(task_name=job.name, status="todo")
    return [
        row
        for row in rows.order_by("pk")
        if wanted.items() <= (defaults | row.args).items()
    ]


def _enqueued(task: Any, args: object, kwargs: object) -> list[ProcrastinateJob]:
    from .tasks_backend import GENERIC_JOBS, as_json, bind

    arguments = as_json({"args": args, "kwargs": kwargs})
    wanted = bind(task, arguments, partial=True).arguments
    rows = ProcrastinateJob.objects.filter(
        task_name__in=GENERIC_JOBS, status="todo", args__task=task.module_path
    )
    found = []
    for row in rows.order_by("pk"):
        given = bind(task, row.args["arguments"])
        given.apply_defaults()
        if wanted.items() <= given.arguments.items():
            found.append(row)
    return found


def _call(name: str, args: Iterable[object], kwargs: Mapping[str, object]) -> str:
    values = [*map(repr, args), *(f"{key}={value!r}" for key, value in kwargs.items())]
    return f"{name}({', '.join(values)})"


def _queue() -> str:
    rows = ProcrastinateJob.objects.filter(status="todo").order_by("pk")
    calls = [f"\n  {_call(row.task_name, (), row.args)}" for row in rows]
    return f"It has:{''.join(calls)}" if calls else "It is empty."
