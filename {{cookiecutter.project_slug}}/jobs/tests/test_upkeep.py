"""Rescue, pruning and samples, without a worker process."""

# pyright: reportAttributeAccessIssue=false
# It does not know the fields that Django adds.

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import connection, connections
from django.utils import timezone
from procrastinate.contrib.django.utils import connector_params

from .. import stats, upkeep
from ..bridge import Job, job
from ..models import Interruption, JobFailure, QueuedJob, QueueSample
from ..retry import Retry
from ..testing import worker_app

Run = Callable[..., QueuedJob]

app = worker_app()


@pytest.fixture
def ship(db: None, monkeypatch: pytest.MonkeyPatch) -> Job[...]:
    """A job that may run twice, known to the worker until the test ends."""
    monkeypatch.setattr(app, "tasks", dict(app.tasks))

    @job(name="ship", retry=Retry(max_attempts=3, exceptions=(KeyError,)))
    def ship(*, order_id: int = 1) -> None:
        """Ship an order."""

    @ship.task(app)
    def ship_body(*, order_id: int = 1) -> None:
        """Do it."""

    return ship


def execute(sql: str, *parameters: Any) -> Any:
    """Run SQL, as the queue and its workers would."""
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall() if cursor.description else None


@pytest.fixture
def run(ship: Job[...]) -> Run:
    """Let a worker take a job. Its last heartbeat was ``silent`` seconds ago."""

    def run(silent: float = 0, **columns: object) -> QueuedJob:
        ((worker,),) = execute(
            "INSERT INTO procrastinate_workers (last_heartbeat)"
            " VALUES (now() - make_interval(secs => %s)) RETURNING id",
            silent,
        )
        pk = ship.defer(order_id=1)
        QueuedJob.objects.filter(pk=pk).update(**columns)
        execute("SELECT procrastinate_fetch_job_v2(NULL, %s)", worker)
        running: QueuedJob = QueuedJob.objects.get(pk=pk)
        assert (running.status, running.worker_id) == ("doing", worker)
        return running

    return run


def failures_of(job: QueuedJob) -> list[tuple[int, str]]:
    return list(job.failures.values_list("attempt", "exception"))


def test_the_job_of_a_dead_worker_waits_again(run: Run) -> None:
    stalled = run(silent=31)
    upkeep.rescue_stalled_jobs(app)
    stalled.refresh_from_db()
    assert (stalled.status, stalled.attempts, stalled.worker_id) == ("todo", 1, None)
    assert stalled.scheduled_at
    assert stalled.scheduled_at < timezone.now() + timedelta(seconds=10)
    assert failures_of(stalled) == [(1, "JobStalled")]


def test_the_job_of_a_worker_whose_row_is_gone_waits_again(run: Run) -> None:
    stalled = run(silent=31)
    execute("SELECT procrastinate_prune_stalled_workers_v1(30)")
    upkeep.rescue_stalled_jobs(app)
    stalled.refresh_from_db()
    assert stalled.status == "todo"


def test_the_job_of_a_living_worker_is_left_alone(run: Run) -> None:
    running = run(silent=20)
    upkeep.rescue_stalled_jobs(app)
    running.refresh_from_db()
    assert (running.status, running.attempts) == ("doing", 0)


def test_a_job_that_kills_its_workers_fails_at_last(run: Run) -> None:
    stalled = run(silent=31)
    Interruption.objects.create(pk=stalled.pk, deaths=2)
    upkeep.rescue_stalled_jobs(app)
    stalled.refresh_from_db()
    assert (stalled.status, stalled.attempts) == ("failed", 1)
    assert "Its worker died" in stalled.failures.get().message


@pytest.mark.parametrize(
    ("deaths", "status"), [(2, "todo"), (upkeep.CERTAIN_DEATHS - 1, "failed")]
)
def test_a_death_of_two_suspects_does_not_tell_which_is_the_cause(
    run: Run, deaths: int, status: str
) -> None:
    one, other = (run(silent=31) for _ in range(2))
    QueuedJob.objects.filter(pk=other.pk).update(worker=one.worker_id)
    Interruption.objects.create(pk=one.pk, deaths=deaths)
    Interruption.objects.create(pk=other.pk, deaths=1)
    upkeep.rescue_stalled_jobs(app)
    one.refresh_from_db()
    other.refresh_from_db()
    assert (one.status, other.status) == (status, "todo")
    assert Interruption.objects.get(pk=one.pk).deaths == deaths + 1


def test_jobs_that_were_running_when_two_workers_died_start_apart(run: Run) -> None:
    # Another one has just started.
    began = timezone.now()
    Interruption.objects.create(pk=run(scheduled_at=began).pk, deaths=2)
    stalled = [run(silent=31) for _ in range(3)]
    for one in stalled:
        Interruption.objects.create(pk=one.pk, deaths=1)
    upkeep.rescue_stalled_jobs(app)
    for one in stalled:
        one.refresh_from_db()
    due = sorted(one.scheduled_at or timezone.now() for one in stalled)
    # Jobs with one death run again now.
    gaps = [second - first for first, second in pairwise([began, *due])]
    assert all(gap >= upkeep.SUSPECT_INTERVAL for gap in gaps)
    assert {one.status for one in stalled} == {"todo"}


def test_such_jobs_never_run_together(run: Run) -> None:
    for lock in (None, "own"):
        stalled = run(silent=31, lock=lock)
        Interruption.objects.create(pk=stalled.pk, deaths=1)
        upkeep.rescue_stalled_jobs(app)
        stalled.refresh_from_db()
        assert stalled.lock == (lock or upkeep.SUSPECTS_LOCK)


@pytest.mark.parametrize(
    ("columns", "status"),
    [
        ({"task_name": "nobody.knows"}, "failed"),
        # A retry could collide with a waiting job.
        ({"queueing_lock": "one"}, "failed"),
    ],
)
def test_a_job_that_must_not_run_again_fails(
    run: Run, columns: dict[str, str], status: str
) -> None:
    stalled = run(silent=31, **columns)
    upkeep.rescue_stalled_jobs(app)
    stalled.refresh_from_db()
    assert stalled.status == status
    assert failures_of(stalled) == [(1, "JobStalled")]


def test_a_job_that_was_asked_to_stop_is_aborted(run: Run) -> None:
    stalled = run(silent=31)
    execute("SELECT procrastinate_cancel_job_v1(%s, true, false)", stalled.pk)
    upkeep.rescue_stalled_jobs(app)
    stalled.refresh_from_db()
    assert (stalled.status, stalled.abort_requested) == ("aborted", False)


def test_a_job_that_runs_again_is_not_rescued_twice(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another rescue came first, between this one's query and its update."""
    stalled = run(silent=31)
    query = stats.stalled
    results = iter([[stalled], query(), query()])
    monkeypatch.setattr(stats, "stalled", lambda: next(results))
    rescued_by_another = QueuedJob.objects.filter(pk=stalled.pk)
    rescued_by_another.update(status="doing", attempts=1)
    upkeep.rescue_stalled_jobs(app)
    stalled.refresh_from_db()
    assert (stalled.status, stalled.attempts) == ("doing", 1)
    assert not failures_of(stalled)


@pytest.mark.django_db(transaction=True)
def test_rescues_at_the_same_time_rescue_once(run: Run) -> None:
    stalled = [run(silent=31) for _ in range(20)]

    def rescue(_: int) -> None:
        try:
            upkeep.rescue_stalled_jobs(app)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(rescue, range(4)))
    for one in stalled:
        one.refresh_from_db()
        assert (one.status, one.attempts, len(failures_of(one))) == ("todo", 1, 1)
    execute("TRUNCATE procrastinate_jobs, procrastinate_workers CASCADE")


@pytest.mark.django_db(transaction=True)
def test_a_job_held_by_a_vanished_host_keeps_no_other_waiting(run: Run) -> None:
    held, other = run(silent=31), run(silent=31)
    with psycopg.connect(**connector_params()) as session:
        hold = "SELECT FROM procrastinate_jobs WHERE id = %s FOR UPDATE"
        session.execute(hold, [held.pk])
        execute("SET statement_timeout = '5s'")
        upkeep.rescue_stalled_jobs(app)
        execute("RESET statement_timeout")
        held.refresh_from_db()
        other.refresh_from_db()
        assert (held.status, other.status) == ("doing", "todo")
    upkeep.rescue_stalled_jobs(app)
    held.refresh_from_db()
    assert (held.status, held.failures.count()) == ("todo", 1)
    execute("TRUNCATE procrastinate_jobs, procrastinate_workers CASCADE")


def workers() -> set[int]:
    return {pk for (pk,) in execute("SELECT id FROM procrastinate_workers")}


def test_dead_workers_are_deleted_once_their_jobs_are_rescued(run: Run) -> None:
    living, dead, of_stalled = run(silent=20), run(silent=31), run(silent=31)
    for ended in (living, dead):
        execute("SELECT procrastinate_finish_job_v1(%s, 'succeeded', false)", ended.pk)
    upkeep.delete_dead_workers()
    assert workers() == {living.worker_id, of_stalled.worker_id}
    upkeep.rescue_stalled_jobs(app)
    upkeep.delete_dead_workers()
    assert workers() == {living.worker_id}


@pytest.mark.django_db(transaction=True)
def test_dead_workers_that_a_vanished_host_holds_stay(run: Run) -> None:
    # It was taking a job: the reference to the worker locks the worker's row.
    taking, dead = run(silent=31), run(silent=31)
    for ended in (taking, dead):
        execute("SELECT procrastinate_finish_job_v1(%s, 'succeeded', false)", ended.pk)
    with psycopg.connect(**connector_params()) as session:
        lock = "SELECT FROM procrastinate_workers WHERE id = %s FOR KEY SHARE"
        session.execute(lock, [taking.worker_id])
        upkeep.delete_dead_workers()
        assert workers() == {taking.worker_id}
    execute("TRUNCATE procrastinate_jobs, procrastinate_workers CASCADE")


@pytest.mark.django_db(transaction=True)
def test_dead_workers_stay_if_deleting_them_would_take_long(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    # Deleting a worker changes the jobs that it ran.
    dead = run(silent=31)
    execute("SELECT procrastinate_finish_job_v1(%s, 'succeeded', false)", dead.pk)
    with psycopg.connect(**connector_params()) as session:
        lock = "SELECT FROM procrastinate_jobs WHERE id = %s FOR UPDATE"
        session.execute(lock, [dead.pk])
        execute("SET statement_timeout = '10s'")
        upkeep.delete_dead_workers()
        execute("RESET statement_timeout")
    assert "lock timeout" in caplog.text
    assert workers() == {dead.worker_id}
    execute("TRUNCATE procrastinate_jobs, procrastinate_workers CASCADE")


def finish(job: QueuedJob, age: timedelta, status: str = "succeeded") -> QueuedJob:
    """End a job, and date that back."""
    execute("SELECT procrastinate_finish_job_v1(%s, %s, false)", job.pk, status)
    execute(
        "UPDATE procrastinate_events SET at = at - %s WHERE job_id = %s", age, job.pk
    )
    JobFailure.objects.create(job=job, attempt=1, at=timezone.now() - age)
    return job


def test_old_jobs_are_pruned_with_their_events_and_failures(
    run: Run, ship: Job[...]
) -> None:
    long_ago = settings.JOBS_KEPT + timedelta(hours=1)
    gone = [finish(run(), long_ago), finish(run(), long_ago, "failed")]
    waiting = ship.defer(order_id=1)
    execute(
        "UPDATE procrastinate_events SET at = at - %s WHERE job_id = %s",
        long_ago,
        waiting,
    )
    execute("UPDATE procrastinate_jobs SET lock = 'held' WHERE id = %s", waiting)
    # So that the next run does not take it.
    execute(
        "UPDATE procrastinate_jobs SET scheduled_at = now() + '1 d' WHERE id = %s",
        waiting,
    )
    kept = finish(run(), settings.JOBS_KEPT - timedelta(hours=1))
    upkeep.prune()
    assert set(QueuedJob.objects.values_list("pk", flat=True)) == {waiting, kept.pk}
    assert JobFailure.objects.get().job_id == kept.pk
    ids = [job.pk for job in gone]
    assert (
        execute("SELECT 1 FROM procrastinate_events WHERE job_id = ANY(%s)", ids) == []
    )


def test_pruning_goes_on_after_a_batch_with_nothing_to_delete(ship: Job[...]) -> None:
    ship.batch_defer(ship.call(order_id=n) for n in range(2_500))
    execute("UPDATE procrastinate_events SET at = at - interval '30 days'")
    # The first 1,200 still wait.
    execute(
        "UPDATE procrastinate_jobs SET status = 'succeeded'"
        " WHERE id >= (SELECT min(id) FROM procrastinate_jobs) + 1200"
    )
    execute("UPDATE procrastinate_events SET at = now() - interval '30 days'")
    upkeep.prune()
    assert QueuedJob.objects.count() == 1_200


def test_each_queue_has_one_sample_a_minute(
    ship: Job[...], monkeypatch: pytest.MonkeyPatch
) -> None:
    ship.configure(queue="mail").defer(order_id=1)
    minute = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: minute)
    upkeep.watch()
    upkeep.watch()
    assert QueueSample.objects.filter(queue="mail").count() == 1
    assert QueueSample.objects.get(queue="mail").waiting == 1
    monkeypatch.setattr(timezone, "now", lambda: minute + timedelta(days=2))
    upkeep.prune()
    assert not QueueSample.objects.exists()


def test_a_sample_counts_what_ended_since_the_last_one(
    ship: Job[...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def sample(minute: int) -> tuple[int, int]:
        moment = timezone.now() + timedelta(minutes=minute)
        with monkeypatch.context() as patch:
            patch.setattr(timezone, "now", lambda: moment)
            upkeep.watch()
        taken = QueueSample.objects.filter(queue=ship.queue).latest("minute")
        return taken.succeeded, taken.failed

    def end(status: str, task: str = "ship") -> None:
        pk = ship.defer(order_id=1)
        for step in ("doing", status):
            QueuedJob.objects.filter(pk=pk).update(status=step, task_name=task)

    end("failed")
    assert sample(0) == (0, 0)
    end("succeeded")
    end("succeeded")
    end("failed")
    end("aborted")
    end("succeeded", "maintenance.watch")
    assert sample(1) == (2, 1)
    assert sample(2) == (0, 0)


def test_an_older_worker_takes_samples_without_the_new_columns(db: None) -> None:
    execute(
        "INSERT INTO jobs_queuesample (minute, queue, waiting, running, wait)"
        " VALUES (now(), 'mail', 1, 0, 5)"
    )
    assert QueueSample.objects.get().succeeded == 0


def test_problems_are_logged_as_errors(
    run: Run, ship: Job[...], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("ERROR")
    run(silent=0)
    upkeep.watch()
    assert not caplog.records
    run(silent=31)
    late = ship.defer(order_id=1)
    execute(
        "UPDATE procrastinate_events SET at = at - interval '301 s' WHERE job_id = %s",
        late,
    )
    JobFailure.objects.bulk_create(
        JobFailure(job_id=late, attempt=1)
        for _ in range(settings.JOBS_MAX_FAILURES + 1)
    )
    upkeep.watch()
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 3
    assert [message.split(":")[0] for message in caplog.messages] == [
        "Queue default",
        "1 job is stuck on dead workers",
        "101 attempts failed in the last hour",
    ]


def test_a_failure_that_was_not_stored_is_added_once(run: Run) -> None:
    missing, stored = run(), run()
    JobFailure.objects.create(job=stored, attempt=1, exception="KeyError")
    for one in (missing, stored):
        execute("SELECT procrastinate_finish_job_v1(%s, 'failed', false)", one.pk)
    upkeep.watch()
    upkeep.watch()
    assert failures_of(missing) == [(1, "TaskNotFound")]
    assert failures_of(stored) == [(1, "KeyError")]


def test_few_finished_jobs_still_reference_their_worker(run: Run) -> None:
    running = run()
    execute(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status, worker_id)"
        " SELECT 'default', 'old', 'succeeded', %s FROM generate_series(1, 1100)",
        running.worker_id,
    )
    upkeep.watch()
    referencing = QueuedJob.objects.filter(worker=running.worker_id)
    assert referencing.filter(status="succeeded").count() <= 1_001
    assert referencing.filter(status="doing").get() == running
