"""What must hold with the batching job manager, copied into a rendered project's tests."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from django.db import connection, transaction
from jobs.testing import Wait, Worker
from procrastinate import PsycopgConnector, sql
from procrastinate.contrib.django import app as django_app
from procrastinate.contrib.django import connector_params
from procrastinate.contrib.django.models import ProcrastinateEvent, ProcrastinateJob
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager

from batching import BatchingJobManager, make_job_manager

pytestmark = pytest.mark.django_db(transaction=True)


def defer(
    number: int, task: str = "sleep", lock: str | None = None, **arguments: float
) -> list[int]:
    """Defer the same job a number of times, and return the ids."""
    job = django_app.configure_task(f"faults.{task}", lock=lock)
    return [job.defer(**arguments) for _ in range(number)]


def statuses(ids: list[int]) -> Counter[str]:
    """Return how many of the jobs have which status."""
    return Counter(ProcrastinateJob.objects.filter(pk__in=ids).values_list("status", flat=True))


def done(ids: list[int]) -> Callable[[], bool]:
    """Make a condition of the jobs' success."""
    return lambda: statuses(ids) == {"succeeded": len(ids)}


def starts(ids: list[int]) -> int:
    """Return how often the jobs were started."""
    return ProcrastinateEvent.objects.filter(job__in=ids, type="started").count()


def recover(ids: list[int], wait_until: Wait) -> None:
    """Let the jobs of dead workers run again, as the project's maintenance does after a while."""
    with connection.cursor() as cursor:

        def at_rest() -> bool:
            """Tell whether PostgreSQL has ended the statements that killed workers began."""
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
                " AND datname = current_database() AND pid != pg_backend_pid()"
            )
            return cursor.fetchone() == (0,)

        wait_until(at_rest)
        cursor.execute(
            "SELECT procrastinate_retry_job_v2(id, now(), NULL, NULL, NULL)"
            " FROM procrastinate_jobs WHERE id = ANY(%s) AND status = 'doing'",
            [ids],
        )


def test_every_job_runs_once_whoever_takes_it(worker: Worker, wait_until: Wait) -> None:
    ids = defer(200, seconds=0) + defer(50, "block", seconds=0)
    with worker(), worker():
        wait_until(done(ids))
    assert starts(ids) == len(ids)


def test_no_job_waits_behind_a_slow_one(worker: Worker, wait_until: Wait) -> None:
    """The two workers have four slots each, and see all these jobs at once."""
    with worker(), worker():
        wait_until(done(defer(8, seconds=0)))
        with transaction.atomic():
            slow = defer(4, seconds=1000)
            quick = defer(40, seconds=0.01)
        wait_until(done(quick))
        assert statuses(slow) == {"doing": 4}
        for pk in slow:
            django_app.job_manager.cancel_job_by_id(pk, abort=True)


def test_jobs_of_a_lock_run_one_after_the_other(worker: Worker, wait_until: Wait) -> None:
    ids = defer(8, lock="a", seconds=0.01)
    with worker(), worker():
        wait_until(done(ids))
    events = ProcrastinateEvent.objects.filter(job__in=ids).exclude(type="deferred").order_by("id")
    expected = [(pk, type_) for pk in ids for type_ in ("started", "succeeded")]
    assert list(events.values_list("job", "type")) == expected


def test_retries_are_counted_and_hold_nothing_up(worker: Worker, wait_until: Wait) -> None:
    failing = defer(4, "fail")
    with worker():
        wait_until(done(defer(20, seconds=0)))
        wait_until(lambda: statuses(failing) == {"failed": 4})
    attempts = ProcrastinateJob.objects.filter(pk__in=failing).values_list("attempts", flat=True)
    assert set(attempts) == {3}


def test_a_job_is_aborted_and_a_waiting_one_cancelled(worker: Worker, wait_until: Wait) -> None:
    ids = defer(5, seconds=1000)
    with worker():
        wait_until(lambda: statuses(ids) == {"doing": 4, "todo": 1})
        for pk in reversed(ids):
            django_app.job_manager.cancel_job_by_id(pk, abort=True)
        wait_until(lambda: statuses(ids) == {"aborted": 4, "cancelled": 1})
        wait_until(done(defer(8, seconds=0)))


def test_nothing_is_left_doing_by_a_worker_that_is_stopped(
    worker: Worker, wait_until: Wait
) -> None:
    ids = defer(300, seconds=0.01)
    with worker() as process:
        wait_until(lambda: statuses(ids)["succeeded"] > 20)
    assert process.returncode == 0
    assert statuses(ids).keys() <= {"todo", "succeeded"}
    with worker():
        wait_until(done(ids))
    assert starts(ids) - len(ids) <= 4  # what was taken and handed back, at most


def test_a_killed_worker_loses_nothing(worker: Worker, wait_until: Wait) -> None:
    ids = defer(300, seconds=0.01)
    with worker() as process:
        wait_until(lambda: statuses(ids)["succeeded"] > 20)
        process.send_signal(signal.SIGKILL)
    assert statuses(ids)["doing"] <= 4
    recover(ids, wait_until)
    with worker():
        wait_until(done(ids))


def test_a_lost_database_loses_nothing(worker: Worker, wait_until: Wait) -> None:
    ids = defer(300, seconds=0.01)
    with worker():
        wait_until(lambda: statuses(ids)["succeeded"] > 20)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid != pg_backend_pid()"
            )
    recover(ids, wait_until)
    with worker():
        wait_until(done(ids))


@asynccontextmanager
async def taking(number: int) -> AsyncIterator[tuple[BatchingJobManager, int, list[Job]]]:
    """Yield a job manager with its worker's id, and jobs that it has given out."""
    connector = PsycopgConnector(kwargs=connector_params())
    await connector.open_async()
    manager = BatchingJobManager(connector, concurrency=4)
    worker_id = await manager.register_worker()
    jobs = [await manager.fetch_job(None, worker_id) for _ in range(number)]
    yield manager, worker_id, [job for job in jobs if job]
    await connector.close_async()


def test_stopping_workers_hold_nothing_back_behind_a_slow_job() -> None:
    """A worker that was told to stop has given out one of the jobs that it took."""
    ids = defer(4, seconds=0)

    async def stop() -> None:
        query = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'doing'"
        async with taking(1) as (manager, _, _), asyncio.timeout(10):
            while (await manager.connector.execute_query_one_async(query))["count"] > 1:
                await asyncio.sleep(0.05)

    asyncio.run(stop())
    assert statuses(ids) == {"doing": 1, "todo": 3}


def test_what_procrastinate_changes_is_noticed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    connector = PsycopgConnector()
    assert type(make_job_manager(connector, 4)) is BatchingJobManager

    def fetch_job(self: JobManager, queues: list[str]) -> None: ...

    with monkeypatch.context() as change:
        change.setattr(JobManager, "fetch_job", fetch_job)
        assert type(make_job_manager(connector, 4)) is JobManager
    assert "not batched" in caplog.text
    monkeypatch.setitem(sql.queries, "finish_job", "SELECT procrastinate_finish_job_v2(%(job_id)s)")
    assert type(make_job_manager(connector, 4)) is JobManager


def test_a_job_that_cannot_be_finished_fails_alone() -> None:
    ids = defer(4, seconds=0)

    async def finish() -> list[BaseException | None]:
        async with taking(4) as (manager, _, jobs):
            assert [job.id for job in jobs] == ids
            await manager.finish_job(jobs[1], Status.SUCCEEDED, delete_job=True)
            calls = (manager.finish_job(job, Status.SUCCEEDED, delete_job=False) for job in jobs)
            return await asyncio.gather(*calls, return_exceptions=True)

    failed = [isinstance(result, ConnectorException) for result in asyncio.run(finish())]
    assert failed == [False, True, False, False]
    assert statuses(ids) == {"succeeded": 3}


def test_what_was_taken_and_not_begun_is_handed_back() -> None:
    ids = defer(5, seconds=0)

    async def stop() -> None:
        async with taking(1) as (manager, worker_id, [first]):
            await manager.cancel_job_by_id_async(ids[3], abort=True)
            await manager.finish_job(first, Status.SUCCEEDED, delete_job=False)
            await manager.unregister_worker(worker_id)

    asyncio.run(stop())
    jobs = ProcrastinateJob.objects.filter(pk__in=ids).order_by("pk")
    assert list(jobs.values_list("status", "attempts")) == [
        ("succeeded", 1),
        ("todo", 0),
        ("todo", 0),
        ("aborted", 0),
        ("todo", 0),
    ]
