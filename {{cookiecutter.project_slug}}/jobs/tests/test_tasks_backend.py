"""Django's tasks as jobs: what Django's own backends promise, and what jobs promise."""

import asyncio
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import OperationalError, connection, connections, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from procrastinate import JobContext
from pytest_django import Settings

from .. import search, stats, upkeep
from ..actions import act
from ..bridge import AlreadyEnqueued
from ..checks import check_settings
from ..models import JobFailure, QueuedJob, StoredResult
from ..retry import JobStalled, JobTimedOut, Retry
from ..testing import (
    Wait,
    Worker,
    assert_deferred,
    assert_enqueued,
    drain_queue,
    perform_job,
    refute_enqueued,
    worker_app,
)
from ..worker import has_django_tasks

if not has_django_tasks():
    pytest.skip("no django.tasks, and no django-tasks", allow_module_level=True)

from ..tasks_backend import InvalidTask, ProcrastinateBackend, base, exceptions, signals
from ..tasks_backend.worker import start_attempt, store_value

TaskResultStatus = base.TaskResultStatus

User: Any = get_user_model()
committing = pytest.mark.django_db(transaction=True)

seen: list[Any] = []
"""What the tasks did, in this process."""


def task(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return the decorator; Django's type stubs lack a backend's own options."""
    decorator: Any = base.task
    return lambda function: decorator(**options)(function)


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    """Forget what earlier tests did."""
    seen.clear()


@task()
def note(*args: object, **kwargs: object) -> None:
    seen.append((args, kwargs))


@task()
async def note_async(*args: object, **kwargs: object) -> None:
    seen.append((args, kwargs))


@task()
def answer() -> int:
    return 42


@task()
async def answer_async() -> dict[str, Any]:
    await asyncio.sleep(0)
    count = await User.objects.acount()
    return {"users": count, "also": (1, 2)}


@task()
def return_object() -> object:
    return object()


@task()
def fail(kind: str = "ValueError", *arguments: str) -> None:
    raise getattr(sys.modules["builtins"], kind)(*arguments)


class OwnError(Exception):
    """An error that is not one of Python's own."""


@task()
async def fail_async() -> None:
    raise OwnError("it failed")


@task()
def fail_at_first(times: int) -> str:
    seen.append("tried")
    if len(seen) <= times:
        raise OperationalError("deadlock detected")
    return "done"


soon = Retry(wait=0)


@task(retry=soon, takes_context=True)
def tell_attempts(context: "base.TaskContext[..., Any]", *, fail: int) -> list[Any]:
    if context.attempt <= fail:
        raise OperationalError
    result = context.task_result
    return [context.attempt, result.id, result.status, len(result.errors)]


@task(retry=None)
def fail_once() -> None:
    raise OperationalError


@task(atomic=True)
def add_user(name: str, fail: bool = False) -> str:
    User.objects.create_user(name)
    if fail:
        raise ValueError(name)
    return name


@task(lock="user:{name}", queueing_lock="{name}/{greeting}", retry=None)
def greet(name: str, *, greeting: str = "hello") -> None:
    seen.append(greeting)


@task(timeout=timedelta(milliseconds=100))
async def wait_long() -> None:
    await asyncio.sleep(30)


@task()
def tell_thread() -> str:
    return threading.current_thread().name


@task()
def sleep_and_add_user(name: str) -> None:
    User.objects.create_user(f"{name}-started")
    time.sleep(1)
    User.objects.create_user(name)


@task(retry=None)
def sleep_once() -> None:
    sleep_and_add_user.call("ann")


@contextmanager
def received(kind: Any) -> Generator[list[Any]]:
    """Collect the senders and results of a signal."""
    found: list[Any] = []

    def receive(sender: Any, task_result: Any, **kwargs: Any) -> None:
        found.append((sender, task_result))

    kind.connect(receive)
    yield found
    kind.disconnect(receive)


def insert(path: str, *args: object) -> Any:
    """Insert a job for whatever is at a path, and return a function that finds it."""
    result = note.enqueue(*args)
    row = QueuedJob.objects.filter(pk=result.id)
    row.update(args=row.get().args | {"task": path})
    return row


# Enqueueing


def test_the_backend_supports_all_features() -> None:
    backend = note.get_backend()
    assert backend.supports_defer
    assert backend.supports_async_task
    assert backend.supports_get_result
    assert backend.supports_priority


@pytest.mark.django_db
@pytest.mark.parametrize("one", [note, note_async])
def test_an_enqueued_task_is_ready(one: Any) -> None:
    with received(signals.task_enqueued) as sent:
        result = one.enqueue(1, two=(3,))
    assert result.status == TaskResultStatus.READY
    assert not result.is_finished
    assert (result.args, result.kwargs) == ([1], {"two": [3]})
    assert (result.started_at, result.last_attempted_at, result.finished_at) == (
        None,
        None,
        None,
    )
    assert (result.task, result.attempts, result.errors) == (one, 0, [])
    with pytest.raises(ValueError, match="not finished yet"):
        _ = result.return_value
    assert sent == [(ProcrastinateBackend, result)]
    found = one.get_result(result.id)
    assert found.enqueued_at < result.enqueued_at + timedelta(minutes=1)
    result.refresh()
    assert result == found
    assert QueuedJob.objects.get().pk == int(result.id)


@committing
def test_async_code_can_enqueue_and_look() -> None:
    async def look() -> None:
        result = await note_async.aenqueue(1)
        await result.arefresh()
        assert result == await note_async.aget_result(result.id)
        assert result.status == TaskResultStatus.READY
        with pytest.raises(exceptions.TaskResultDoesNotExist):
            await note.get_backend().aget_result("junk")
        await sync_to_async(connections.close_all)()

    asyncio.run(look())


@committing
def test_a_task_is_enqueued_with_the_transaction() -> None:
    def count() -> int:
        try:
            return int(QueuedJob.objects.count())
        finally:
            connection.close()

    with transaction.atomic():
        note.enqueue()
        transaction.set_rollback(True)
    assert not QueuedJob.objects.exists()
    with transaction.atomic():
        result = note.enqueue()
        with ThreadPoolExecutor() as elsewhere:
            assert elsewhere.submit(count).result() == 0
    assert QueuedJob.objects.get().pk == int(result.id)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "value", [datetime(2026, 1, 1), {1, 2}, float("nan"), "\0", {"a": b"\xff"}]
)
def test_arguments_that_json_cannot_represent_are_rejected(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        note.enqueue(value)
    assert not QueuedJob.objects.exists()


@pytest.mark.django_db
def test_arguments_are_as_the_task_gets_them() -> None:
    assert note.enqueue({1: b"bytes"}).args == [{"1": "bytes"}]


@pytest.mark.django_db
@pytest.mark.parametrize("pk", ["", "x", "-1", "1.5", "٣", "9" * 30, "1", 7, None])
def test_an_unknown_id_has_no_result(pk: object) -> None:
    with pytest.raises(exceptions.TaskResultDoesNotExist):
        note.get_backend().get_result(pk)


@pytest.mark.django_db
def test_another_tasks_result_is_none_of_this_task() -> None:
    result = answer.enqueue()
    with pytest.raises(exceptions.TaskResultMismatch):
        note.get_result(result.id)
    other = note.enqueue()
    QueuedJob.objects.filter(pk=other.id).update(task_name="shop.send")
    with pytest.raises(exceptions.TaskResultDoesNotExist):
        note.get_result(other.id)


@pytest.mark.django_db
def test_tasks_are_validated_again_when_they_are_enqueued(settings: Settings) -> None:
    backend = django_settings.TASKS["default"]["BACKEND"]
    settings.TASKS = {"default": {"BACKEND": backend, "QUEUES": ["mail"]}}
    mail = note.using(queue_name="mail")
    settings.TASKS = {"default": {"BACKEND": backend}}
    with pytest.raises(InvalidTask, match="Queue 'mail' is not valid"):
        mail.enqueue()
    settings.TASKS = {"default": {"BACKEND": backend, "QUEUES": []}}
    assert mail.enqueue().task.queue_name == "mail"


@pytest.mark.django_db
def test_a_queue_may_be_removed_while_jobs_wait_in_it(settings: Settings) -> None:
    backend = django_settings.TASKS["default"]["BACKEND"]
    settings.TASKS = {"default": {"BACKEND": backend, "QUEUES": []}}
    result = note.using(queue_name="mail").enqueue()
    settings.TASKS = {"default": {"BACKEND": backend}}
    assert note.get_result(result.id).status == TaskResultStatus.READY


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"priority": 101}, "between -100 and 100"),
        ({"priority": 1.5}, "whole number"),
        ({"queue_name": "mail"}, "Queue 'mail' is not valid"),
        ({"takes_context": True}, "first argument"),
        ({"queueing_lock": "x"}, "a retry collides"),
        ({"lock": "{nobody}"}, "fields that are not arguments"),
    ],
)
def test_an_invalid_task_is_rejected(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidTask, match=problem):
        task(**options)(answer.func)


def test_an_atomic_task_must_not_be_async() -> None:
    with pytest.raises(InvalidTask, match="must not be async"):
        task(atomic=True)(note_async.func)


def test_only_functions_of_a_module_are_tasks() -> None:
    with pytest.raises(InvalidTask, match="module level"):
        base.task(any)
    with pytest.raises(InvalidTask, match="aware"):
        note.using(run_after=datetime(2026, 1, 1))


@pytest.mark.django_db
def test_another_alias_is_kept(settings: Settings) -> None:
    backend = django_settings.TASKS["default"]
    settings.TASKS = {"default": backend, "other": {**backend, "QUEUES": ["mail"]}}
    result = note.using(backend="other", queue_name="mail").enqueue()
    assert result.backend == result.task.backend == "other"
    assert QueuedJob.objects.get().queue_name == "mail"


@pytest.mark.skipif("sys.version_info < (3, 12)", reason="Django 5.2 pickles no task")
def test_a_task_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(greet)) == greet


# Running


@committing
@pytest.mark.parametrize("one", [note, note_async])
def test_the_worker_runs_a_task(one: Any) -> None:
    result = one.enqueue(1, two=2)
    assert drain_queue() == {"succeeded": 1}
    assert seen == [((1,), {"two": 2})]
    result.refresh()
    assert result.status == TaskResultStatus.SUCCESSFUL
    assert result.is_finished
    assert result.return_value is None
    assert result.enqueued_at <= result.started_at == result.last_attempted_at
    assert result.started_at <= result.finished_at
    assert result.attempts == len(result.worker_ids) == 1
    assert result.worker_ids[0].isdecimal()


@committing
def test_return_values_are_kept() -> None:
    results = [one.enqueue() for one in (answer, answer_async)]
    drain_queue()
    for result in results:
        result.refresh()
    assert [result.return_value for result in results] == [
        42,
        {"users": 0, "also": [1, 2]},
    ]


@committing
def test_sync_tasks_run_in_lanes() -> None:
    result = tell_thread.enqueue()
    drain_queue()
    result.refresh()
    assert result.return_value.startswith("lane")


@committing
def test_a_run_that_lost_its_job_stores_no_value() -> None:
    answer.enqueue()
    drain_queue()
    job = QueuedJob.objects.get().procrastinate_job
    context = JobContext(
        app=worker_app(), job=job, start_timestamp=0, abort_reason=lambda: None
    )
    start_attempt(context)
    store_value(context, 43)
    assert StoredResult.objects.get().return_value is None


@committing
def test_a_task_that_returns_no_json_fails_with_a_sentence() -> None:
    result = return_object.enqueue()
    assert drain_queue(raises=False) == {"failed": 1}
    result.refresh()
    assert result.status == TaskResultStatus.FAILED
    assert result.errors[0].exception_class is TypeError
    assert "JSON cannot represent what the task returned" in result.errors[0].traceback
    assert "Unsupported type" in result.errors[0].traceback


@committing
@pytest.mark.parametrize("kind", ["ValueError", "SystemExit", "KeyboardInterrupt"])
def test_a_failed_task_keeps_its_error(kind: str) -> None:
    result = fail.enqueue(kind, "it failed")
    assert drain_queue(raises=False) == {"failed": 1}
    result.refresh()
    assert result.status == TaskResultStatus.FAILED
    with pytest.raises(ValueError, match="Task failed"):
        _ = result.return_value
    (error,) = result.errors
    assert error.exception_class.__name__ == kind
    assert error.traceback.endswith(f"{kind}: it failed\n")
    assert result.attempts == 1
    assert result.started_at <= result.finished_at


@committing
def test_a_failed_task_that_is_run_again_has_not_finished() -> None:
    result = fail.enqueue()
    drain_queue(raises=False)
    act("retry_job", [int(result.id)])
    result.refresh()
    assert (result.status, result.finished_at) == (TaskResultStatus.READY, None)


@committing
def test_the_class_of_an_error_can_be_imported() -> None:
    result = fail_async.enqueue()
    drain_queue(raises=False)
    result.refresh()
    assert result.errors[0].exception_class is OwnError


@committing
def test_a_transient_error_is_retried() -> None:
    result = fail_at_first.enqueue(1)
    assert drain_queue(raises=False) == {"todo": 1}
    result.refresh()
    assert (result.status, result.attempts) == (TaskResultStatus.READY, 1)
    assert [error.exception_class for error in result.errors] == [OperationalError]
    first = result.started_at
    QueuedJob.objects.filter().update(scheduled_at=timezone.now())
    assert drain_queue() == {"succeeded": 1}
    result.refresh()
    assert (result.return_value, result.attempts) == ("done", 2)
    assert len(set(result.worker_ids)) == 2
    assert len(result.errors) == 1
    assert first == result.started_at
    assert first < result.last_attempted_at


@committing
def test_a_task_may_have_a_retry_of_its_own() -> None:
    result, never = tell_attempts.enqueue(fail=1), fail_once.enqueue()
    assert drain_queue(raises=False) == {"succeeded": 1, "failed": 1}
    result.refresh()
    assert result.return_value == [2, result.id, "RUNNING", 1]
    never.refresh()
    assert never.attempts == 1


@committing
@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("os.getcwd", "TypeError"),
        ("jobs.tests.test_tasks_backend.nothing", "ImportError"),
        ("no_such_module.task", "ModuleNotFoundError"),
        ("junk", "ImportError"),
    ],
)
def test_only_tasks_are_called(path: str, error: str) -> None:
    row = insert(path)
    assert drain_queue(raises=False) == {"failed": 1}
    assert JobFailure.objects.get().exception == error
    with pytest.raises(exceptions.TaskResultDoesNotExist):
        note.get_backend().get_result(str(row.get().pk))


@committing
def test_signals_tell_what_happens_to_a_task() -> None:
    with (
        received(signals.task_started) as started,
        received(signals.task_finished) as finished,
    ):
        results = [
            one.enqueue() for one in (answer, note_async, fail, fail_async, fail_once)
        ]
        retried = tell_attempts.enqueue(fail=1)
        drain_queue(raises=False)
    assert {sender for sender, _ in started + finished} == {ProcrastinateBackend}
    ids = [result.id for result in results]
    assert sorted(result.id for _, result in started) == sorted(
        [*ids, retried.id, retried.id]
    )
    assert {result.id: result.status.value for _, result in finished} == dict(
        zip(
            [*ids, retried.id],
            ["SUCCESSFUL", "SUCCESSFUL", "FAILED", "FAILED", "FAILED", "SUCCESSFUL"],
            strict=True,
        )
    )
    assert len(finished) == 6
    assert all(result.finished_at for _, result in finished)
    assert 42 in [result._return_value for _, result in finished]


@committing
def test_tasks_run_without_lanes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_app(), "lanes", False)
    with received(signals.task_finished) as finished:
        results = [answer.enqueue(), answer_async.enqueue(), add_user.enqueue("bob")]
        assert drain_queue() == {"succeeded": 3}
    for result in results:
        result.refresh()
        assert (result.status.value, result.attempts) == ("SUCCESSFUL", 1)
    assert results[0].return_value == 42
    assert {result.id for _, result in finished} == {result.id for result in results}


@committing
def test_a_receiver_that_fails_changes_nothing() -> None:
    def receive(**kwargs: Any) -> None:
        raise ValueError("not the task's fault")

    signals.task_started.connect(receive)
    signals.task_finished.connect(receive)
    try:
        answer.enqueue()
        answer.enqueue()  # its lane takes it before it calls the receivers
        assert drain_queue() == {"succeeded": 2}
    finally:
        signals.task_started.disconnect(receive)
        signals.task_finished.disconnect(receive)


@committing
def test_a_transaction_that_a_receiver_leaves_open_is_not_the_next_tasks() -> None:
    def receive(**kwargs: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")

    signals.task_finished.connect(receive)
    try:
        results = [answer.enqueue(), answer.enqueue()]
        assert drain_queue() == {"succeeded": 2}
    finally:
        signals.task_finished.disconnect(receive)
    for result in results:
        result.refresh()
        assert result.return_value == 42


@committing
def test_higher_priorities_run_first() -> None:
    for priority in (-100, 0, 100, 20):
        note.using(priority=priority).enqueue(priority)
    drain_queue()
    assert [args for args, _ in seen] == [(100,), (20,), (0,), (-100,)]


@committing
def test_a_task_waits_until_it_is_due() -> None:
    later = timezone.now() + timedelta(hours=1)
    result = note.using(run_after=later).enqueue()
    assert result.task.run_after == later
    assert drain_queue() == {"todo": 1}
    QueuedJob.objects.filter().update(scheduled_at=timezone.now())
    assert drain_queue() == {"succeeded": 1}


# This backend's own options


@committing
def test_an_atomic_task_has_its_effects_once() -> None:
    failed, added = add_user.enqueue("ann", fail=True), add_user.enqueue("bob")
    assert drain_queue(raises=False) == {"failed": 1, "succeeded": 1}
    assert list(User.objects.values_list("username", flat=True)) == ["bob"]
    failed.refresh()
    added.refresh()
    assert (failed.attempts, added.attempts) == (1, 1)
    assert failed.errors[0].exception_class is ValueError
    assert added.return_value == "bob"


@pytest.mark.django_db
def test_locks_are_filled_with_the_tasks_arguments() -> None:
    greet.enqueue("{ann}")
    row = QueuedJob.objects.get()
    assert (row.lock, row.queueing_lock) == ("user:{ann}", "{ann}/hello")
    with pytest.raises(AlreadyEnqueued):
        greet.enqueue("{ann}")
    with pytest.raises(TypeError, match="name"):
        greet.enqueue(greeting="hello")
    greet.enqueue("{ann}", greeting="good day")
    assert QueuedJob.objects.count() == 2


@committing
def test_a_task_may_have_a_time_limit() -> None:
    result = wait_long.enqueue()
    assert drain_queue(raises=False) == {"failed": 1}
    result.refresh()
    assert result.errors[0].exception_class is JobTimedOut


# Beside all other jobs


@pytest.mark.django_db
def test_a_task_is_slow_in_comparison_with_itself() -> None:
    """A task that always takes minutes raises no alert because another is quick."""
    quick = [note.enqueue() for _ in range(30)]
    usual, running = answer.enqueue(), answer.enqueue()
    events = [
        (result.id, kind, 200) for result in quick for kind in ("started", "succeeded")
    ]
    events += [(usual.id, "started", 500), (usual.id, "succeeded", 400)]
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET status = 'succeeded'")
        cursor.execute(
            "UPDATE procrastinate_jobs SET status = 'doing' WHERE id = %s", [running.id]
        )
        cursor.execute("DELETE FROM procrastinate_events")
        cursor.executemany(
            "INSERT INTO procrastinate_events (job_id, type, at)"
            " VALUES (%s, %s::procrastinate_job_event_type, now() - make_interval(secs => %s))",
            [*events, (running.id, "started", 90)],
        )
    assert stats.now().slow == []


@pytest.mark.django_db
def test_an_enqueued_task_is_found_by_some_of_its_arguments() -> None:
    result = greet.using(priority=7).enqueue("ann")
    tell_attempts.enqueue(fail=1)
    for args, kwargs in (
        ((), {}),
        (("ann",), {}),
        ((), {"name": "ann"}),
        (("ann",), {"greeting": "hello"}),
    ):
        found = assert_enqueued(greet, *args, **kwargs)
        assert (found.id, found.task.priority) == (result.id, 7)
    assert_enqueued(tell_attempts, fail=1)
    refute_enqueued(greet, "bob")
    refute_enqueued(greet, greeting="good day")
    refute_enqueued(note)


@pytest.mark.django_db
def test_a_wrong_assertion_says_what_is_enqueued() -> None:
    greet.enqueue("ann")
    with pytest.raises(AssertionError, match=r"note\(1, a=2\) is not.*\n.*greet"):
        assert_enqueued(note, 1, a=2)
    with pytest.raises(AssertionError, match=r"greet\('ann'\) is in the queue"):
        refute_enqueued(greet, "ann")
    with pytest.raises(TypeError, match="nmae"):
        assert_enqueued(greet, nmae="ann")


@pytest.mark.django_db
def test_a_task_is_no_declared_job() -> None:
    with pytest.raises(TypeError, match=r"tests\S*\.answer is a task.*: call its call"):
        perform_job(answer)
    with pytest.raises(
        TypeError, match=r"tests\S*\.answer is a task.*: use assert_enq"
    ):
        assert_deferred(answer)


@committing
def test_a_cancelled_task_has_failed() -> None:
    result = note.enqueue()
    QueuedJob.objects.filter().update(status="cancelled")
    result.refresh()
    assert result.status == TaskResultStatus.FAILED
    assert result.finished_at


@committing
def test_results_are_pruned_with_their_jobs() -> None:
    result = answer.enqueue()
    drain_queue()
    upkeep.prune()
    assert StoredResult.objects.exists()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_events SET at = at - interval '1 year'")
    upkeep.prune()
    assert not StoredResult.objects.exists()
    with pytest.raises(exceptions.TaskResultDoesNotExist):
        result.refresh()


@pytest.mark.django_db
def test_the_jobs_pages_list_tasks(
    client: Client, staff: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = note.module_path
    pk = int(note.enqueue(1).id)
    query = {"task": "django.task", "text": "note"}
    page = client.get("/jobs/list/", query).content.decode()
    assert f'{path} <span class="id">{pk}</span>' in page
    assert f"<title>{path}[{pk}]" in client.get(f"/jobs/{pk}/").content.decode()
    call_command("jobs", "list")
    call_command("jobs", "show", str(pk))
    printed = capsys.readouterr().out
    assert f"  default  {path} " in printed
    assert f"{path}[{pk}]: waiting" in printed
    with CaptureQueriesContext(connection) as queries:
        (job,) = search.without_arguments(QueuedJob.objects.all())
        assert job.name == path
    assert len(queries) == 1


@committing
def test_a_worker_that_is_stopped_finishes_its_task(
    worker: Worker, wait_until: Wait
) -> None:
    result = sleep_and_add_user.enqueue("ann")
    with worker() as process:
        wait_until(lambda: User.objects.exists())
        process.send_signal(signal.SIGINT)
        process.wait(30)
    result.refresh()
    assert result.status == TaskResultStatus.SUCCESSFUL
    assert User.objects.filter(username="ann").exists()


@committing
def test_the_task_of_a_killed_worker_runs_again(
    worker: Worker, wait_until: Wait
) -> None:
    result = sleep_and_add_user.enqueue("ann")
    with worker() as process:
        wait_until(lambda: User.objects.exists())
        process.kill()
        process.wait(30)
    result.refresh()
    assert (result.status, result.attempts) == (TaskResultStatus.RUNNING, 1)
    User.objects.all().delete()
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour'"
        )
    upkeep.rescue_stalled_jobs(worker_app())
    result.refresh()
    assert result.status == TaskResultStatus.READY
    (error,) = result.errors
    assert error.exception_class is JobStalled
    assert "Its worker died" in error.traceback
    drain_queue()
    result.refresh()
    assert result.status == TaskResultStatus.SUCCESSFUL
    assert result.attempts == len(set(result.worker_ids)) == 2


@committing
def test_a_task_that_must_not_run_again_has_finished_with_its_worker(
    worker: Worker, wait_until: Wait
) -> None:
    result = sleep_once.enqueue()
    with worker() as process:
        wait_until(lambda: User.objects.exists())
        process.kill()
        process.wait(30)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour'"
        )
    with received(signals.task_finished) as finished:
        upkeep.rescue_stalled_jobs(worker_app())
    assert [(found.id, found.status.value) for _, found in finished] == [
        (result.id, "FAILED")
    ]


def test_a_check_says_that_tasks_lead_elsewhere(settings: Settings) -> None:
    assert "jobs.W007" not in [message.id for message in check_settings()]
    for tasks in (
        {
            "default": {
                "BACKEND": f"{base.Task.__module__[:-5]}.backends.dummy.DummyBackend"
            }
        },
        {},
    ):
        settings.TASKS = tasks
        assert "jobs.W007" in [message.id for message in check_settings()]


def test_a_check_says_that_no_worker_serves_a_queue(
    settings: Settings, tmp_path: Path
) -> None:
    settings.BASE_DIR = tmp_path
    backend = ProcrastinateBackend("default", {"QUEUES": ["default", "mail", "slow"]})
    assert backend.check() == []
    procfile = "worker: procrastinate --app=tasks.app worker --queues=default,slow"
    (tmp_path / "Procfile").write_text(procfile)
    (message,) = backend.check()
    assert (message.id, "'mail'" in message.msg) == ("jobs.W002", True)


BEFORE_MODELS = """
import sys
from django.conf import settings
settings.configure(TASKS={"default": {"BACKEND": "%s"}})
from jobs.tasks_backend import base
@base.task()
def work():
    pass
assert type(work).__name__ == "JobTask"
assert "jobs.models" not in sys.modules
"""


def test_a_task_can_be_made_before_models_are_ready() -> None:
    path = django_settings.TASKS["default"]["BACKEND"]
    environment = {
        name: value
        for name, value in os.environ.items()
        if name != "DJANGO_SETTINGS_MODULE"
    }
    subprocess.run(
        [sys.executable, "-c", BEFORE_MODELS % path],
        cwd=django_settings.BASE_DIR,
        env=environment,
        check=True,
    )
