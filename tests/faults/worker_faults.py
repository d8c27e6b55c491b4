"""What a worker guarantees, whatever happens to it. Copied into a rendered project's tests.

`test_worker.py`, beside it, runs it there, with lanes and without.
"""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone
from procrastinate.contrib.django import app as django_app
from procrastinate.contrib.django import connector_params
from procrastinate.contrib.django.models import ProcrastinateEvent

from .. import actions, supervision, upkeep
from ..bridge import MAINTENANCE_QUEUE
from ..models import Interruption, JobFailure, PausedQueue, QueuedJob, WorkerInfo
from ..testing import Wait, Worker, worker_app

pytestmark = pytest.mark.django_db(transaction=True)

KILLS = int(os.environ.get("KILLS", "5"))
RUNS = int(os.environ.get("RUNS", "1"))
exhaustive = pytest.mark.skipif(KILLS < 50, reason="it takes minutes")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test as often as the environment says."""
    if RUNS > 1:
        metafunc.fixturenames.append("run")
        metafunc.parametrize("run", range(RUNS))


def execute(sql: str, *parameters: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall() if cursor.description else None


@pytest.fixture
def wait_until() -> Wait:
    """Wait for a condition, for two minutes at most: much may run beside these tests."""

    def wait(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < deadline, "it did not happen within two minutes"
            time.sleep(0.05)

    return wait


@pytest.fixture(autouse=True)
def effects_table(wait_until: Wait) -> Iterator[None]:
    execute("DROP TABLE IF EXISTS effects")
    execute("CREATE TABLE effects (id bigserial, what text)")
    yield
    wait_until(at_rest)  # or a killed worker's last statement may stop the clean-up
    execute("DROP TABLE effects")
    Interruption.objects.all().delete()


def effects() -> int:
    ((number,),) = execute("SELECT count(*) FROM effects WHERE what = 'x'")
    return int(number)


def defer(number: int, task: str, lock: str | None = None, **arguments: object) -> list[int]:
    with transaction.atomic():
        job = django_app.configure_task(f"faults.{task}", lock=lock)
        return [job.defer(**arguments) for _ in range(number)]


def statuses(ids: list[int]) -> Counter[str]:
    found = QueuedJob.objects.filter(pk__in=ids).values_list("status", flat=True)
    return Counter(found)


def are(ids: list[int], status: str) -> Callable[[], bool]:
    return lambda: statuses(ids) == {status: len(ids)}


def starts(ids: list[int]) -> int:
    return ProcrastinateEvent.objects.filter(job__in=ids, type="started").count()


def raised(ids: list[int]) -> Counter[str]:
    found = JobFailure.objects.filter(job__in=ids).values_list("exception", flat=True)
    return Counter(found)


def rescue() -> None:
    """Make the upkeep take all workers for dead, and let their jobs run again at once."""
    execute("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour'")
    upkeep.rescue_stalled_jobs(worker_app())
    execute("UPDATE procrastinate_jobs SET scheduled_at = NULL WHERE status = 'todo'")


def end_sessions() -> None:
    """End all database sessions of the workers."""
    execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


def at_rest() -> bool:
    """Whether all sessions of killed workers are idle."""
    ((number,),) = execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND state <> 'idle'"
    )
    return bool(number == 0)


def test_every_job_runs_once_whoever_takes_it(worker: Worker, wait_until: Wait) -> None:
    ids = []
    for _ in range(30):
        ids += defer(5, "block") + defer(1, "wait")
    with worker(), worker():
        wait_until(are(ids, "succeeded"))
    assert starts(ids) == len(ids)


def test_no_job_waits_behind_a_slow_one(worker: Worker, wait_until: Wait) -> None:
    with worker(), worker():
        wait_until(are(defer(8, "block"), "succeeded"))
        slow = defer(4, "polite", seconds=1_000)
        wait_until(are(defer(40, "block", seconds=0.01), "succeeded"))
        assert statuses(slow) == {"doing": 4}
        for pk in slow:
            django_app.job_manager.cancel_job_by_id(pk, abort=True)
        wait_until(are(slow, "aborted"))


@pytest.mark.parametrize("mixed", [False, True], ids=["sync", "mixed"])
def test_jobs_of_a_lock_follow_one_another_at_once(
    worker: Worker, wait_until: Wait, mixed: bool
) -> None:
    # It does not poll: with the notifications of other jobs alone, it would take minutes.
    with worker("--fetch-job-polling-interval=1000"):
        wait_until(are(defer(1, "block"), "succeeded"))
        ids = []
        for n in range(12):
            task = "wait" if mixed and n % 3 == 1 else "block"
            ids += defer(1, task, lock="one", seconds=0.05)
        wait_until(are(ids, "succeeded"))
    events = ProcrastinateEvent.objects.filter(job__in=ids)
    found = {(event.job_id, event.type): event for event in events}
    assert len(found) == 3 * len(ids)
    for one, following in pairwise(ids):
        end, start = found[one, "succeeded"], found[following, "started"]
        # A lane writes both events in one transaction, and so with one time.
        assert end.pk < start.pk or end.at == start.at


def test_failures_are_retried_and_kept(worker: Worker, wait_until: Wait) -> None:
    failing, wrong, leaving = defer(4, "fail"), defer(2, "wrong"), defer(2, "leave")
    with worker():
        wait_until(are(defer(20, "block"), "succeeded"))
        wait_until(are([*failing, *wrong, *leaving], "failed"))
    attempts = QueuedJob.objects.filter(pk__in=failing).values_list("attempts", flat=True)
    assert set(attempts) == {3}
    assert raised(failing) == {"ConnectionError": 12}
    assert raised([*wrong, *leaving]) == {"KeyError": 2, "SystemExit": 2}


def test_a_job_is_aborted_and_a_waiting_one_cancelled(worker: Worker, wait_until: Wait) -> None:
    ids = defer(5, "polite", seconds=1_000)
    with worker():
        wait_until(lambda: statuses(ids) == {"doing": 4, "todo": 1})
        for pk in reversed(ids):
            django_app.job_manager.cancel_job_by_id(pk, abort=True)
        wait_until(lambda: statuses(ids) == {"aborted": 4, "cancelled": 1})
        wait_until(are(defer(8, "block"), "succeeded"))


def test_a_stopped_worker_leaves_nothing_behind(worker: Worker, wait_until: Wait) -> None:
    ids = defer(100, "block", seconds=0.1)
    with worker() as process:
        wait_until(lambda: statuses(ids)["succeeded"] > 5)
    assert process.returncode == 0
    # Its lanes took no more, though they had time for all of them.
    assert statuses(ids).keys() == {"todo", "succeeded"}
    with worker():
        wait_until(are(ids, "succeeded"))
    assert starts(ids) == len(ids)


def test_a_killed_worker_loses_nothing(worker: Worker, wait_until: Wait) -> None:
    ids = defer(300, "block", seconds=0.01)
    with worker() as process:
        wait_until(lambda: statuses(ids)["succeeded"] > 20)
        process.send_signal(signal.SIGKILL)
    assert statuses(ids)["doing"] <= 4
    wait_until(at_rest)
    rescue()
    with worker():
        wait_until(are(ids, "succeeded"))


def test_a_worker_starts_though_a_vanished_host_holds_a_job(
    worker: Worker, wait_until: Wait
) -> None:
    silent = (
        "INSERT INTO procrastinate_workers VALUES (DEFAULT, now() - interval '1 h') RETURNING id"
    )
    ((dead,),) = execute(silent)
    held = defer(1, "block")
    execute("SELECT procrastinate_fetch_job_v2(NULL, %s)", dead)
    registered = "SELECT 1 FROM procrastinate_workers WHERE id = %s"
    with psycopg.connect(**connector_params()) as session:
        session.execute("SELECT FROM procrastinate_jobs WHERE id = ANY(%s) FOR UPDATE", [held])
        with worker():
            wait_until(are(defer(4, "block"), "succeeded"))
        assert execute(registered, dead)
        assert statuses(held) == {"doing": 1}
    rescue()
    with worker():
        wait_until(are(held, "succeeded"))
        wait_until(lambda: not execute(registered, dead))


def surplus_after_kills(task: str, worker: Worker, wait_until: Wait) -> int:
    """Run jobs with one effect each, and kill their workers; return the surplus of effects."""
    ids: list[int] = []
    hits = 0
    for kill in range(1, KILLS + 1):
        enough = statuses(ids)["succeeded"] + 3
        ids.extend(defer(16, task, seconds=0.05))
        with worker() as process:
            wait_until(lambda enough=enough: statuses(ids)["succeeded"] >= enough)
            if kill % 5 == 0:
                end_sessions()
                if kill % 2:  # the worker opens new ones, or ends
                    wait_until(
                        lambda enough=enough + 8, process=process: (
                            statuses(ids)["succeeded"] >= enough or process.poll() is not None
                        )
                    )
            process.kill()
        wait_until(at_rest)
        hits += statuses(ids)["doing"] > 0
        rescue()
        # Too many interruptions would fail the jobs; other tests cover that.
        Interruption.objects.all().delete()
    assert hits, "the workers that were killed ran nothing"
    with worker():
        wait_until(are(ids, "succeeded"))
    print(f"\n{KILLS} kills, {KILLS // 5} times sessions, {effects()} effects of {len(ids)} jobs")
    return effects() - len(ids)


def test_an_atomic_jobs_effect_happens_exactly_once(worker: Worker, wait_until: Wait) -> None:
    assert surplus_after_kills("atomic_effect", worker, wait_until) == 0


@exhaustive  # by chance, a few kills may double nothing
def test_another_jobs_effect_may_happen_twice(worker: Worker, wait_until: Wait) -> None:
    assert surplus_after_kills("effect", worker, wait_until) > 0


def test_an_atomic_job_that_fails_leaves_no_effect(worker: Worker, wait_until: Wait) -> None:
    ids = defer(2, "atomic_failure") + defer(2, "atomic_lazy")
    with worker():
        wait_until(are(ids, "failed"))
    assert raised(ids) == {"KeyError": 2, "TypeError": 2}
    assert effects() == 0


@pytest.mark.parametrize(
    "rescue",
    [
        "status = 'todo', scheduled_at = now() + interval '1 hour'",
        "attempts = attempts + 1",  # and the same worker took the job again
        "worker_id = (SELECT max(id) FROM procrastinate_workers)",
    ],
    ids=["waits", "runs here", "runs elsewhere"],
)
def test_a_late_worker_cannot_end_a_rescued_job(
    worker: Worker, wait_until: Wait, rescue: str
) -> None:
    tasks = ("late", "late_atomic", "late_on_the_loop", "late_failure")
    ids = [pk for task in tasks for pk in defer(1, task)]
    with worker():
        wait_until(are(ids, "doing"))
        wait_until(lambda: effects() == 1)
        execute("INSERT INTO procrastinate_workers DEFAULT VALUES")
        rescued = f"UPDATE procrastinate_jobs SET {rescue} WHERE id = ANY(%s) RETURNING status"
        expected = Counter(status for (status,) in execute(rescued, ids))
        execute("INSERT INTO effects (what) VALUES ('rescued')")
    assert statuses(ids) == expected
    assert effects() == 1  # the atomic job's was rolled back


SETTINGS = ("search_path", "role", "statement_timeout", "time zone", "advisory lock")


@pytest.mark.parametrize(
    ("task", "how"),
    [
        *(("dirty", how) for how in ("autocommit", "begin", "closed", "on_commit", "async")),
        *((task, how) for task in ("dirty", "atomic_dirty") for how in (*SETTINGS, "context")),
    ],
)
def test_a_job_leaves_nothing_behind_for_the_next(
    worker: Worker, wait_until: Wait, task: str, how: str
) -> None:
    ids = []
    for _ in range(4):
        ids += defer(1, task, how=how) + defer(1, "clean")
    with worker("--concurrency=1"):
        wait_until(are(ids[1::2], "succeeded"))
        wait_until(lambda: not statuses(ids)["doing"])
    assert effects() == 0 or how == "autocommit"
    assert starts(ids) == len(ids)


@pytest.mark.parametrize(
    ("task", "arguments", "kept"),
    [
        ("odd", {"how": "own cause"}, "ValueError"),
        ("odd", {"how": "no text"}, "NoText"),
        ("odd", {"how": "generator"}, "GeneratorExit"),
        ("odd", {"how": "exit"}, "SystemExit"),
        ("odd", {"how": "stop iteration"}, "RuntimeError"),
        ("cancels_itself", {}, "JobCancelledItself"),
        ("closes_the_loop", {}, "RuntimeError"),
        ("unknown", {}, "TaskNotFound"),
        ("stops_in_time", {"seconds": 1_000}, "JobTimedOut"),
        ("uses_another_database", {}, "RuntimeError"),
    ],
)
def test_a_bad_job_fails_with_its_reason_and_harms_no_other(
    worker: Worker, wait_until: Wait, task: str, arguments: dict[str, str], kept: str
) -> None:
    before, ids, after = defer(3, "block"), defer(2, task, **arguments), defer(3, "block")
    with worker("--concurrency=1"):
        wait_until(are(before + after, "succeeded"))
        wait_until(are(ids, "failed"))
        if task == "unknown":
            upkeep.watch()
    assert raised(ids) == {kept: 2}


def test_sync_functions_may_return_awaitables(worker: Worker, wait_until: Wait) -> None:
    with worker("--concurrency=1"):
        wait_until(are(defer(3, "lazy") + defer(3, "block"), "succeeded"))


def test_a_worker_that_lost_its_sessions_ends_every_job(worker: Worker, wait_until: Wait) -> None:
    """If a session ended just as a job ends, the job would stay `doing`."""
    ids = defer(300, "effect", seconds=0.005) + defer(60, "wait", seconds=0.005)
    for _ in range(3):
        with worker() as process:
            for _ in range(2):  # it may end when its side tasks lose their sessions
                enough = min(len(ids), statuses(ids)["succeeded"] + 40)
                wait_until(
                    lambda enough=enough, process=process: (
                        statuses(ids)["succeeded"] >= enough or process.poll() is not None
                    )
                )
                end_sessions()
        assert statuses(ids)["failed"] == 0
    with worker():
        wait_until(are(ids, "succeeded"))
    # A job runs again only if the reply to its effect was lost.
    assert 300 <= effects() < 304


def test_a_job_that_its_worker_does_not_know_goes_back_to_the_queue(
    worker: Worker, wait_until: Wait
) -> None:
    with worker():
        wait_until(are(defer(1, "block"), "succeeded"))
        ids = defer(1, "block")
        wait_until(are(ids, "succeeded"))
        execute(
            "UPDATE procrastinate_jobs SET status = 'doing', worker_id ="
            " (SELECT max(id) FROM procrastinate_workers) WHERE id = %s",
            *ids,
        )
        wait_until(are(ids, "succeeded"))
    assert starts(ids) == 2


def test_a_job_with_a_waiting_twin_is_not_put_back(worker: Worker, wait_until: Wait) -> None:
    """Only one job of a queueing lock may wait."""
    with worker():
        wait_until(are(defer(1, "block"), "succeeded"))
        later = timezone.now() + timedelta(hours=1)
        job = django_app.configure_task("faults.block", queueing_lock="twin", schedule_at=later)
        taken = job.defer()
        # The worker does not know it.
        execute(
            "UPDATE procrastinate_jobs SET status = 'doing', worker_id ="
            " (SELECT max(id) FROM procrastinate_workers) WHERE id = %s",
            taken,
        )
        twin = job.defer()
        wait_until(are([taken], "failed"))
        upkeep.watch()
    assert statuses([twin]) == {"todo": 1}
    assert raised([taken]) == {"AlreadyEnqueued": 1}


def test_the_graceful_shutdown_time_is_kept(
    worker: Worker, wait_until: Wait, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also with jobs that never ask whether they should stop."""
    plain = defer(1, "stubborn", seconds=1_000)
    atomic = defer(1, "atomic_effect", seconds=1_000)
    asking = defer(1, "polite", seconds=1_000)
    cut = plain + atomic + asking + defer(1, "block", seconds=1_000)
    once = defer(1, "once", seconds=1_000)
    Interruption.objects.create(pk=plain[0], give_backs=1)
    with worker("--shutdown-graceful-timeout=0.2", "--concurrency=5") as process:
        wait_until(are(cut + once, "doing"))
        wait_until(lambda: effects() == 1)
        process.terminate()
        process.wait(60)
    assert process.returncode == 1
    *_, last = capfd.readouterr().err.splitlines()
    assert "The worker ends although these jobs are still running: " in last
    wait_until(at_rest)
    assert statuses(cut) == {"todo": 4}
    # It starts again when its old thread is surely dead.
    put_back = ProcrastinateEvent.objects.get(job=plain[0], type="deferred_for_retry").at
    start = QueuedJob.objects.get(pk=plain[0]).scheduled_at
    assert start > put_back + timedelta(seconds=1)
    assert statuses(once) == {"failed": 1}
    assert raised(once) == {"JobCut": 1}
    assert effects() == 1
    kept = dict(Interruption.objects.values_list("job_id", "give_backs"))
    assert kept == dict.fromkeys(cut, 1) | {plain[0]: 2}


def test_a_draining_worker_is_alive(worker: Worker, wait_until: Wait) -> None:
    def beat() -> Any:
        return execute("SELECT max(last_heartbeat) FROM procrastinate_workers")

    ids, limited = defer(1, "polite", seconds=1_000), defer(1, "endless_wait")
    with worker("--shutdown-graceful-timeout=60") as process:
        wait_until(lambda: starts(ids + limited) == 2)
        process.terminate()
        wait_until(
            lambda: (
                execute(
                    "SELECT max(last_heartbeat) > now() - interval '1 s' FROM procrastinate_workers"
                )
                == [(True,)]
            )
        )
        last = beat()
        wait_until(lambda: beat() > last)
        django_app.job_manager.cancel_job_by_id(ids[0], abort=True)
        wait_until(are(ids, "aborted"))
        process.wait(60)
    assert process.returncode == 0
    assert raised(limited) == {"JobTimedOut": 1}


@exhaustive
def test_a_job_of_over_a_minute_runs_once(worker: Worker, wait_until: Wait) -> None:
    ids = defer(1, "block", seconds=70)
    with worker("--shutdown-graceful-timeout=100") as one:
        wait_until(are(ids, "doing"))
        with worker():
            one.terminate()
            wait_until(are(ids, "succeeded"))
    assert starts(ids) == 1
    assert not raised(ids)


def test_an_async_job_over_its_time_fails(worker: Worker, wait_until: Wait) -> None:
    ids = defer(2, "endless_wait")
    with worker() as process:
        wait_until(are(ids, "failed"))
        wait_until(are(defer(4, "block"), "succeeded"))
        assert process.poll() is None
    assert raised(ids) == {"JobTimedOut": 2}
    assert "asyncio.sleep(1_000)" in JobFailure.objects.filter(job=ids[0]).get().traceback


def test_a_sync_job_over_its_time_ends_its_worker(worker: Worker, wait_until: Wait) -> None:
    ids, neighbour = defer(1, "endless"), defer(1, "polite", seconds=1_000)
    with worker("--shutdown-graceful-timeout=1") as process:
        process.wait(120)
    assert process.returncode == 1
    assert statuses(ids) == {"failed": 1}
    assert statuses(neighbour) == {"todo": 1}
    assert raised(ids) == {"JobTimedOut": 1}
    assert "time.sleep(1_000)" in JobFailure.objects.get(job=ids[0]).traceback


def test_a_blocked_event_loop_ends_its_worker(worker: Worker) -> None:
    ids, neighbour = defer(1, "blocking"), defer(1, "block", seconds=1_000)
    with worker() as process:
        process.wait(120)
    assert process.returncode == 1
    assert statuses(ids) == {"failed": 1}
    assert statuses(neighbour) == {"todo": 1}
    assert raised(ids) == {"EventLoopBlocked": 1}
    assert "in blocking" in JobFailure.objects.get(job=ids[0]).traceback


def test_a_crash_counts_against_the_job_that_caused_it(worker: Worker, wait_until: Wait) -> None:
    poison, innocent = defer(3, "poison"), defer(2, "block", seconds=1)
    deadline = timezone.now() + timedelta(minutes=3)
    while statuses(poison + innocent).keys() & {"todo", "doing"}:
        with worker("--concurrency=5") as process:
            while process.poll() is None and statuses(poison + innocent)["todo"]:
                time.sleep(0.1)
            wait_until(
                lambda process=process: (
                    process.poll() is not None or not statuses(poison + innocent)["doing"]
                )
            )
        execute("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 h'")
        upkeep.rescue_stalled_jobs(worker_app())
        assert timezone.now() < deadline
    assert statuses(poison) == {"failed": 3}
    assert statuses(innocent) == {"succeeded": 2}


def test_a_job_that_stops_the_event_loop_fails(worker: Worker, wait_until: Wait) -> None:
    ids, neighbour = defer(1, "stops_the_loop"), defer(1, "wait", seconds=1)
    while not are(ids, "failed")():
        with worker() as process:
            process.wait(120)
        rescue()
    with worker():
        wait_until(are(neighbour, "succeeded"))
    # If the neighbour missed the first death, the third does not tell which was the cause.
    assert raised(ids) in ({"JobStalled": 3}, {"JobStalled": 4})


def test_a_dead_worker_is_noticed_by_its_lock(worker: Worker, wait_until: Wait) -> None:
    """Its heartbeat would seem alive for longer, and the upkeep is paused."""
    PausedQueue.objects.create(queue=MAINTENANCE_QUEUE)
    ids = [django_app.configure_task("faults.block", queue="q").defer(seconds=1_000)]
    with worker("--queues=q") as dying, worker("--queues=q") as living:
        wait_until(are(ids, "doing"))
        wait_until(lambda: WorkerInfo.objects.count() == 2)
        ((pid,),) = execute(
            "SELECT pid FROM jobs_workerinfo JOIN procrastinate_jobs USING (worker_id)"
            " WHERE status = 'doing'"
        )
        victim, other = (dying, living) if pid == dying.pid else (living, dying)
        victim.kill()
        wait_until(lambda: starts(ids) == 2)
        other.kill()
    assert raised(ids) == {"JobStalled": 1}


def test_deploys_use_up_no_attempt(worker: Worker, wait_until: Wait) -> None:
    (pk,) = ids = defer(1, "fail")
    QueuedJob.objects.filter(pk=pk).update(attempts=20)
    Interruption.objects.create(pk=pk, give_backs=18, deaths=2)
    with worker():
        wait_until(are(ids, "failed"))
    assert raised(ids) == {"ConnectionError": 3}


def test_a_worker_introduces_itself(worker: Worker, wait_until: Wait) -> None:
    with worker("--queues=default,mail") as process:
        wait_until(lambda: WorkerInfo.objects.filter(pid=process.pid).exists())
        info = WorkerInfo.objects.get(pid=process.pid)
        assert info.queues == ["default", "mail"]
        assert "faults.block" in info.tasks
        assert info.periodic["maintenance.watch"] == "* * * * *"


@pytest.fixture
def pauses() -> Iterator[None]:
    yield
    execute("DELETE FROM jobs_pausedqueue")


def defer_to(queue: str, number: int = 1, task: str = "block", **arguments: object) -> list[int]:
    job = django_app.configure_task(f"faults.{task}", queue=queue)
    with transaction.atomic():
        return [job.defer(**arguments) for _ in range(number)]


@pytest.mark.parametrize("options", [[], ["--queues=one,two"]], ids=["all", "some"])
def test_a_paused_queue_is_left_alone_within_a_second(
    worker: Worker, wait_until: Wait, pauses: None, options: list[str]
) -> None:
    """Under load, in two workers. Running jobs end, other queues go on, a resume is obeyed."""
    with worker(*options), worker(*options):
        wait_until(are(defer_to("one"), "succeeded"))
        (running,) = defer_to("one", task="polite", seconds=1_000)
        ids = defer_to("one", 4_000, seconds=0.02)
        wait_until(lambda: starts([running]) and starts(ids) > 40)
        actions.pause("one", "a test", "a test")
        over = "SELECT now() > since + interval '3 s' FROM jobs_pausedqueue"
        wait_until(lambda: execute(over) == [(True,)] and not statuses(ids)["doing"])
        started = starts(ids)
        not_served = defer_to("three") if options else []
        # There was no job in this queue when the other one was paused.
        wait_until(are(defer_to("two", 100), "succeeded"))
        assert starts(not_served) == 0
        assert starts(ids) == started
        assert started < len(ids)
        assert statuses([running]) == {"doing": 1}
        django_app.job_manager.cancel_job_by_id(running, abort=True)
        wait_until(are([running], "aborted"))
        QueuedJob.objects.filter(pk__in=ids[started + 100 :]).delete()
        actions.resume("one", "a test")
        wait_until(lambda: statuses(ids) == {"succeeded": started + 100})


def test_a_pause_survives_restarts_and_queues_that_nobody_knows(
    worker: Worker, wait_until: Wait, pauses: None
) -> None:
    actions.pause("unheard of", "a test", "a test")
    waiting = defer_to("unheard of")
    for _ in range(2):
        with worker():
            ids = defer_to("default") + defer_to("other")
            wait_until(are(ids, "succeeded"))
            assert starts(waiting) == 0
    listens = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
    listens += " AND query = 'LISTEN \"procrastinate_any_queue_v1\";'"
    with worker():
        # Also to the queue that is paused: once it is resumed, its jobs start at once.
        wait_until(lambda: execute(listens))
        actions.resume("unheard of", "a test")
        wait_until(are(waiting, "succeeded"))


def test_maintenance_goes_on_wherever_a_queue_is_paused(
    worker: Worker, wait_until: Wait, pauses: None
) -> None:
    """The rescue of dead workers' jobs depends on it."""
    for queue in ("default", "mail"):
        actions.pause(queue, "a test", "a test")
    with worker("--queues=mail"):
        done = QueuedJob.objects.filter(task_name__startswith="maintenance.", status="succeeded")
        wait_until(done.exists)


def test_a_worker_that_cannot_read_the_pauses_keeps_its_last_state(
    worker: Worker, wait_until: Wait, pauses: None
) -> None:
    actions.pause("one", "a test", "a test")
    lock = "SELECT 1 FROM pg_locks JOIN pg_database ON pg_database.oid = database WHERE"
    lock += " locktype = 'advisory' AND classid = %s AND datname = current_database()"
    with worker() as process:
        wait_until(are(defer_to("default"), "succeeded"))
        wait_until(lambda: execute(lock, supervision.LOCK_CLASS))
        execute("ALTER TABLE jobs_pausedqueue RENAME TO away")
        try:
            waiting = defer_to("one")
            # With the lock, it loses the session in which it could not read.
            wait_until(lambda: not execute(lock, supervision.LOCK_CLASS))
            wait_until(are(defer_to("default"), "succeeded"))
            assert starts(waiting) == 0
            assert process.poll() is None
        finally:
            execute("ALTER TABLE away RENAME TO jobs_pausedqueue")
        actions.resume("one", "a test")
        wait_until(are(waiting, "succeeded"))


def test_the_setting_is_what_the_test_says() -> None:
    assert os.environ.get("LANES", "on") == ("on" if settings.JOBS_LANES else "off")
