"""How jobs end in lanes and on the event loop, and what atomic jobs must not do."""

import asyncio
import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any
from unittest import mock

import psycopg
import pytest
from django.contrib.auth import get_user_model
from django.db import connection, connections, transaction
from procrastinate import JobContext, PsycopgConnector
from procrastinate.contrib.django import connector_params
from procrastinate.exceptions import ConnectorException
from procrastinate.manager import JobManager
from procrastinate.middleware import SyncCallNext

from .. import runs, upstream
from ..bridge import Job, job
from ..models import Interruption, JobFailure
from ..testing import drain_queue, worker_app

pytestmark = pytest.mark.django_db(transaction=True)

User: Any = get_user_model()
app: Any = worker_app()
Declare = Callable[..., Job[[]]]


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Declare:
    """Declare a job and bind its body, until the test ends."""
    monkeypatch.setattr(app, "tasks", dict(app.tasks))
    monkeypatch.setattr(app, "lanes", True)

    def declare(body: Callable[[], Any], **options: Any) -> Job[[]]:
        declared = job(name=body.__name__, **options)(lambda: None)
        declared.task(app)(body)
        return declared

    return declare


class Awaitable:
    """What a sync function may return."""

    def __await__(self) -> Generator[None]:
        yield


def test_an_atomic_job_must_not_return_an_awaitable(declare: Declare) -> None:
    def lazy() -> Any:
        User.objects.create_user("ann")
        return Awaitable()

    declare(lazy, atomic=True).defer()
    assert drain_queue(raises=False) == {"failed": 1}
    assert "must not return an awaitable" in JobFailure.objects.get().message
    assert not User.objects.exists()


def test_an_atomic_job_must_not_use_another_database(
    declare: Declare, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {**connection.settings_dict, "OPTIONS": {}}
    monkeypatch.setitem(connections.databases, "other", other)

    def count_elsewhere() -> None:
        elsewhere = connections["other"]
        elsewhere.connection = connection.connection  # tests may not open another
        try:
            with elsewhere.cursor() as cursor:
                cursor.execute("SELECT 1")
        finally:
            elsewhere.connection = None

    declare(count_elsewhere, atomic=True).defer()
    assert drain_queue(raises=False) == {"failed": 1}
    assert "must not use another database" in JobFailure.objects.get().message


@pytest.mark.parametrize("atomic", [False, True])
def test_a_transaction_that_a_job_leaves_open_is_rolled_back(
    declare: Declare, atomic: bool
) -> None:
    def leave_open() -> None:
        # In an atomic job, after its commit; else at once.
        transaction.on_commit(open_transaction)

    def open_transaction() -> None:
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("INSERT INTO jobs_interruption VALUES (1, 0, 0)")

    leave = declare(leave_open, atomic=atomic)
    leave.batch_defer([leave.call(), leave.call()])
    assert drain_queue() == {"succeeded": 2}
    assert not Interruption.objects.exists()


def test_the_event_loop_ends_a_job_whose_lane_lost_its_connection(
    declare: Declare,
) -> None:
    ran = []

    def lose_connection() -> None:
        ran.append(User.objects.count())
        pid = connection.connection.info.backend_pid
        with psycopg.connect(**connector_params()) as other:
            other.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])

    declare(lose_connection).defer()
    assert drain_queue() == {"succeeded": 1}
    assert len(ran) == 1


def test_the_event_loop_tries_again_to_end_a_job(
    declare: Declare, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [ConnectorException(), ConnectorException()]
    execute: Any = PsycopgConnector.execute_query_all_async

    async def fail_twice(self: Any, query: Any, **arguments: Any) -> Any:
        if query == runs.FINISH and errors:
            raise errors.pop()
        return await execute(self, query, **arguments)

    async def think() -> None:
        pass

    monkeypatch.setattr(PsycopgConnector, "execute_query_all_async", fail_twice)
    declare(think).defer()
    assert drain_queue() == {"succeeded": 1}
    assert not errors


@pytest.mark.parametrize("lanes", [True, False])
def test_task_middlewares_run_in_lanes_and_without(
    declare: Declare, monkeypatch: pytest.MonkeyPatch, lanes: bool
) -> None:
    seen = []

    def middleware(call_next: SyncCallNext, context: JobContext, worker: Any) -> Any:
        seen.append(context.job.task_name)
        return call_next()

    def plain() -> None:
        pass

    def atomic() -> None:
        pass

    monkeypatch.setattr(app, "lanes", lanes)
    monkeypatch.setitem(app.worker_defaults, "task_middleware", [middleware])
    declare(plain).defer()
    declare(atomic, atomic=True).defer()
    assert drain_queue() == {"succeeded": 2}
    assert seen == ["plain", "atomic"]


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Is set when the worker has found no other job."""
    idle = threading.Event()
    fetch: Any = JobManager.fetch_job

    async def fetch_job(self: Any, *args: Any, **options: Any) -> Any:
        found = await fetch(self, *args, **options)
        if found is None:
            idle.set()
        return found

    monkeypatch.setattr(JobManager, "fetch_job", fetch_job)
    return idle


def work_until(event: threading.Event) -> None:
    """Run a worker that never polls, until an event, for ten seconds at most."""

    async def work() -> None:
        async with app.open_async():
            worker = asyncio.create_task(
                app.run_worker_async(
                    concurrency=2,
                    fetch_job_polling_interval=1_000,
                    listen_notify=False,
                    install_signal_handlers=False,
                )
            )
            await asyncio.to_thread(event.wait, 10)
            worker.cancel()
            with suppress(asyncio.CancelledError):
                await worker

    with (
        app.replace_connector(PsycopgConnector(kwargs=connector_params())),
        mock.patch.dict(upstream.periodic_tasks(app), clear=True),
    ):
        asyncio.run(work())
    assert event.is_set()


def test_the_next_job_of_a_lock_follows_an_async_one(
    declare: Declare, idle: threading.Event
) -> None:
    followed = threading.Event()

    async def first() -> None:
        await asyncio.to_thread(idle.wait, 10)

    async def second() -> None:
        followed.set()

    declare(first, lock="one").defer()
    declare(second, lock="one").defer()
    work_until(followed)


def test_the_next_job_of_a_lock_follows_a_sync_one(
    declare: Declare, idle: threading.Event
) -> None:
    """Its lane takes another job, which has a higher priority."""
    followed = threading.Event()

    def first() -> None:
        idle.wait(10)
        jobs["second"].defer()
        jobs["urgent"].defer()

    def second() -> None:
        followed.set()

    def urgent() -> None:
        followed.wait(10)

    jobs = {
        "second": declare(second, lock="one"),
        "urgent": declare(urgent, priority=10),
    }
    declare(first, lock="one").defer()
    work_until(followed)
