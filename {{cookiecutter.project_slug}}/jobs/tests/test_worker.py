"""The worker's options and connections, and what they prevent."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar
from unittest import mock

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.db import connection
from procrastinate import PsycopgConnector
from procrastinate.contrib.django import app as django_app
from procrastinate.contrib.django import connector_params
from procrastinate.middleware import AsyncCallNext
from psycopg import AsyncConnection

from .. import upstream
from ..bridge import job
from ..models import QueuedJob
from ..testing import Wait, drain_queue, worker_app
from ..worker import make_app, make_connector

User: Any = get_user_model()
app = worker_app()


T = TypeVar("T")


def test_a_worker_notices_when_it_loses_its_database() -> None:
    """Procrastinate stops watching its side tasks when the first of them ends."""
    app.perform_import_paths()  # type: ignore[no-untyped-call]
    assert upstream.periodic_tasks(app)


def test_a_worker_stops_before_its_platform_kills_it() -> None:
    options: Any = app.worker_defaults
    assert options["shutdown_graceful_timeout"] < 30


def test_jobs_of_a_lock_do_not_wait_for_each_other_for_long() -> None:
    """With a concurrency above 1, only polling finds the next job of a lock."""
    options: Any = app.worker_defaults
    assert options["fetch_job_polling_interval"] <= 1


def test_a_cron_line_may_have_a_time_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight o'clock in Berlin is 6:00 UTC in summer and 7:00 UTC in winter."""
    monkeypatch.setattr(app, "tasks", dict(app.tasks))
    periodic = upstream.periodic_tasks(app)
    with mock.patch.dict(periodic):
        body = app.task(name="wake")(lambda timestamp: None)
        register: Any = app.periodic
        register(cron="0 8 * * *", time_zone="Europe/Berlin")(body)
        clock: Any = periodic["wake", ""].croniter
        for day, hour in (("2026-07-01", 6), ("2026-12-01", 7)):
            midnight = datetime.fromisoformat(f"{day}T00:00Z")
            due = clock.get_next(float, start_time=midnight.timestamp())
            assert datetime.fromtimestamp(due, UTC).hour == hour
        shown = upstream.cron_line(periodic["wake", ""])
        assert shown == "0 8 * * * (Europe/Berlin)"


def test_a_projects_middleware_sees_every_job() -> None:
    """Lanes would bypass it, because it runs on the event loop."""

    async def middleware(call_next: AsyncCallNext, context: Any, worker: Any) -> Any:
        return await call_next()

    connector: Any = app.connector
    own = make_app("tasks", connector=connector, middleware=[middleware])
    assert not own.lanes
    defaults: Any = own.worker_defaults
    assert defaults["worker_middleware"][0] is middleware


@pytest.mark.django_db(transaction=True)
def test_middleware_of_the_project_runs_around_every_job() -> None:
    seen = []

    async def middleware(call_next: AsyncCallNext, context: Any, worker: Any) -> Any:
        seen.append(context.job.task_name)
        return await call_next()

    connector = PsycopgConnector(kwargs=connector_params())
    own = make_app("tasks", connector=connector, middleware=[middleware])
    upstream.periodic_tasks(own).clear()
    bodies: list[tuple[str, bool, Callable[[], object]]] = [
        ("atomic", True, lambda: None),
        ("failing", True, lambda: 1 / 0),
        ("plain", False, lambda: None),
    ]
    for name, atomic, body in bodies:
        declared = job(name=name, atomic=atomic)(lambda: None)
        declared.task(own)(body)
        declared.defer()

    async def work() -> None:
        async with own.open_async():
            await own.run_worker_async(
                wait=False, install_signal_handlers=False, listen_notify=False
            )

    asyncio.run(work())
    assert sorted(seen) == ["atomic", "failing", "plain"]
    failed = QueuedJob.objects.exclude(status="succeeded")
    assert [(one.task_name, one.status) for one in failed] == [("failing", "failed")]


def on_a_connection_of_the_worker(
    use: Callable[[AsyncConnection[Any]], Awaitable[T]],
) -> T:
    async def run() -> T:
        connector = make_connector()
        await connector.open_async()
        try:
            async with connector.pool.connection() as worker_connection:
                return await use(worker_connection)
        finally:
            await connector.close_async()

    return asyncio.run(run())


@pytest.mark.django_db(transaction=True)
def test_the_workers_queries_need_no_begin_and_no_commit() -> None:
    """With them, a job would need twice as many round trips."""

    async def is_autocommit(worker_connection: AsyncConnection[Any]) -> bool:
        return worker_connection.autocommit

    assert on_a_connection_of_the_worker(is_autocommit)


MANY = 5_000
FEW_BLOCKS = 120


async def blocks_read_for_a_job(worker_connection: AsyncConnection[Any]) -> int:
    """Return how many blocks of 8 kB PostgreSQL reads to find the next job."""
    blocks = 0
    for _ in range(7):  # the last plan is a generic one
        cursor = await worker_connection.execute(
            "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON)"
            f" SELECT * FROM {upstream.FETCH_JOB}(NULL, NULL)"
        )
        [[[explained]]] = await cursor.fetchall()
        blocks = explained["Plan"]["Shared Hit Blocks"]
    return blocks


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("lock", ["NULL", "n"])
@pytest.mark.parametrize("finished", [0, 1_000])
def test_the_next_job_is_found_without_reading_all(finished: int, lock: str) -> None:
    """In a new database, and after an hour in which nothing waited."""
    insert = "INSERT INTO procrastinate_jobs (task_name, queue_name, lock, status) "
    with connection.cursor() as cursor:
        # If it ran during the insert, it would note that the table is empty.
        cursor.execute("ALTER TABLE procrastinate_jobs SET (autovacuum_enabled = off)")
        cursor.execute("TRUNCATE procrastinate_jobs CASCADE")
        cursor.execute(
            f"{insert} SELECT '', '', NULL, 'succeeded' FROM generate_series(1, %s)",
            [finished],
        )
        if finished:
            cursor.execute("ANALYZE procrastinate_jobs")
        cursor.execute(
            f"{insert} SELECT '', '', {lock}, 'todo' FROM generate_series(1, {MANY}) n"
        )
    try:
        blocks = on_a_connection_of_the_worker(blocks_read_for_a_job)
        assert blocks < FEW_BLOCKS
    finally:
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE procrastinate_jobs CASCADE")
            cursor.execute("ALTER TABLE procrastinate_jobs RESET (autovacuum_enabled)")


@pytest.mark.django_db(transaction=True)
def test_async_jobs_share_no_thread_and_so_no_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first to end would close the other's connection."""
    monkeypatch.setattr(app, "tasks", dict(app.tasks))
    threads: set[int] = set()
    both_run = asyncio.Barrier(2)

    @app.task(name="count")
    async def count() -> None:
        await both_run.wait()
        await User.objects.acount()
        threads.add(await sync_to_async(threading.get_ident)())
        await both_run.wait()

    async def work() -> None:
        connector = PsycopgConnector(kwargs=connector_params())
        with app.replace_connector(connector) as tests_app:
            async with tests_app.open_async():
                for _ in range(2):
                    await tests_app.configure_task("count").defer_async()
                await tests_app.run_worker_async(
                    wait=False, install_signal_handlers=False, listen_notify=False
                )

    asyncio.run(work())
    assert len(threads) == 2
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE procrastinate_jobs CASCADE")


@pytest.mark.django_db(transaction=True)
def test_a_job_returns_its_connection(
    monkeypatch: pytest.MonkeyPatch, wait_until: Wait
) -> None:
    """Otherwise the worker's threads would exhaust the pool."""
    monkeypatch.setattr(app, "tasks", dict(app.tasks))

    @app.task(name="count")
    def count() -> None:
        User.objects.count()

    def in_use() -> int:
        stats = connection.pool.get_stats()  # type: ignore[attr-defined]
        return int(stats["pool_size"] - stats["pool_available"])

    django_app.configure_task("count").defer()
    before = in_use()
    assert drain_queue() == {"succeeded": 1}
    # The pool may also be opening a connection, which is in use until it is open.
    wait_until(lambda: in_use() <= before)
