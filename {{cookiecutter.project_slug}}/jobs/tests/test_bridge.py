"""What the bridge promises to those who declare and defer jobs."""

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.core.exceptions import SynchronousOnlyOperation
from django.core.management import BaseCommand, call_command
from django.db import connection, connections, transaction
from django.db.migrations import Migration, RunPython
from django.db.migrations.state import ProjectState
from django.utils import timezone
from procrastinate.contrib.django import app as django_app
from procrastinate.contrib.django import procrastinate_app
from procrastinate.contrib.django.exceptions import DjangoNotReady
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.contrib.django.procrastinate_app import FutureApp
from procrastinate.exceptions import ConnectorException

from ..bridge import CHUNK, AlreadyEnqueued, Job, job
from ..testing import drain_queue, worker_app
from ..upstream import QueueRow

User: Any = get_user_model()


@pytest.fixture
def ship(db: None) -> Job[...]:
    """A job with many options."""

    @job(
        queue="mail",
        priority=3,
        lock="order:{order_id}",
        queueing_lock="ship:{order_id}:{by}",
        retry=None,
    )
    def ship(*, order_id: int, by: str = "air") -> None:
        """Ship an order."""

    return ship


@pytest.fixture
def note(db: None) -> Job[...]:
    """A job that takes anything."""

    @job()
    def note(*, value: object) -> None:
        """Note a value."""

    return note


def queued() -> ProcrastinateJob:
    job: ProcrastinateJob = ProcrastinateJob.objects.get()
    return job


def test_a_job_is_deferred_with_its_declared_options(ship: Job[...]) -> None:
    assert ship.defer(order_id=1) == queued().pk
    found = queued()
    assert (found.queue_name, found.priority) == ("mail", 3)
    assert (found.lock, found.queueing_lock) == ("order:1", "ship:1:air")
    assert found.args == {"order_id": 1}
    assert found.task_name.endswith(".ship")


def test_one_call_can_have_other_options(ship: Job[...]) -> None:
    ship.configure(
        queue="slow",
        priority=-1,
        lock=None,
        queueing_lock="any",
        schedule_in=timedelta(hours=1),
    ).defer(order_id=1)
    found = queued()
    assert (found.queue_name, found.priority) == ("slow", -1)
    assert (found.lock, found.queueing_lock) == (None, "any")
    assert found.scheduled_at is not None
    assert found.scheduled_at > timezone.now() + timedelta(minutes=59)
    assert ship.queue == "mail"


def test_a_stored_delay_counts_from_each_defer(note: Job[...]) -> None:
    later = note.configure(schedule_in=timedelta(hours=1))
    later.defer(value=1)
    later.defer(value=2)
    first, second = ProcrastinateJob.objects.order_by("pk")
    assert first.scheduled_at is not None
    assert second.scheduled_at is not None
    assert first.scheduled_at < second.scheduled_at


def test_an_unknown_option_is_rejected(note: Job[...]) -> None:
    options: dict[str, Any] = {"qeue": "mail"}
    with pytest.raises(TypeError, match="no defer option 'qeue'"):
        note.configure(**options)


def test_two_times_are_rejected(note: Job[...]) -> None:
    later = note.configure(schedule_at=timezone.now())
    with pytest.raises(ValueError, match="not both"):
        later.configure(schedule_in=timedelta())


def test_one_call_cannot_have_a_queueing_lock_and_retries(
    note: Job[...],
) -> None:
    with pytest.raises(ValueError, match="a retry collides"):
        note.configure(queueing_lock="note")


def test_the_lock_of_one_call_may_only_use_arguments(ship: Job[...]) -> None:
    with pytest.raises(ValueError, match=r"\{order_pk\}' has fields"):
        ship.configure(lock="order:{order_pk}")


@pytest.mark.parametrize(
    "arguments", [{}, {"order_pk": 1}, {"order_id": 1, "to": "Rome"}]
)
def test_wrong_keywords_are_rejected_at_the_call(
    ship: Job[...], arguments: dict[str, Any]
) -> None:
    with pytest.raises(TypeError, match=r"\.ship: "):
        ship.defer(**arguments)
    assert not ProcrastinateJob.objects.exists()


@pytest.mark.parametrize(
    "value",
    [
        uuid4(),
        Decimal(1),
        timezone.now(),
        {1},
        b"1",
        (1,),
        {1: 2},
        float("nan"),
        "a\0b",
        {"a": ["b\0"]},
        "\ud800",
    ],
)
def test_what_json_cannot_represent_is_rejected_at_the_call(
    note: Job[...], value: object
) -> None:
    with pytest.raises(TypeError, match="JSON cannot represent value="):
        note.defer(value=value)
    assert not ProcrastinateJob.objects.exists()


@pytest.mark.parametrize("value", [None, "Zoë \\u0000", [1.5, {"a": True}]])
def test_what_json_can_represent_is_unchanged(note: Job[...], value: object) -> None:
    note.defer(value=value)
    assert queued().args == {"value": value}


def test_a_declaration_must_name_every_parameter() -> None:
    with pytest.raises(TypeError, match="are not allowed"):

        @job()
        def anything(**rest: int) -> None:
            """Take what comes."""


def test_a_name_is_declared_once(note: Job[...]) -> None:
    with pytest.raises(TypeError, match="declared twice"):

        @job(name=note.name)
        def other() -> None:
            """Have the same name."""


def test_an_alias_leads_to_the_body(monkeypatch: pytest.MonkeyPatch) -> None:
    app = worker_app()
    monkeypatch.setattr(app, "tasks", dict(app.tasks))

    @job(name="new", aliases=("old",))
    def renamed() -> None:
        """Have had another name."""

    assert renamed.task(app)(lambda: None) is app.tasks["old"] is app.tasks["new"]


def test_a_batch_is_one_statement(
    note: Job[...], django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(1):
        ids = note.batch_defer(note.call(value=value) for value in range(100))
    found = ProcrastinateJob.objects.in_bulk(ids)
    assert [found[pk].args["value"] for pk in ids] == list(range(100))
    assert note.batch_defer([]) == []


def test_a_large_batch_is_several_statements(
    note: Job[...], django_assert_num_queries: Any
) -> None:
    savepoint = 2
    with django_assert_num_queries(3 + savepoint):
        ids = note.batch_defer(note.call(value=value) for value in range(2 * CHUNK + 1))
    found = ProcrastinateJob.objects.in_bulk(ids)
    assert [found[pk].args["value"] for pk in ids] == list(range(2 * CHUNK + 1))


@pytest.mark.django_db(transaction=True)
def test_a_large_batch_is_deferred_as_a_whole(
    note: Job[...], monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = django_app.job_manager
    original = manager.batch_defer_jobs

    def fail_at_last(jobs: list[QueueRow]) -> list[QueueRow]:
        if len(jobs) < CHUNK:
            raise ConnectionError
        return original(jobs)

    monkeypatch.setattr(manager, "batch_defer_jobs", fail_at_last)
    with pytest.raises(ConnectionError):
        note.batch_defer(note.call(value=value) for value in range(CHUNK + 1))
    assert not ProcrastinateJob.objects.exists()


def test_a_batch_with_a_call_of_another_job_is_rejected(
    ship: Job[...], note: Job[...]
) -> None:
    with pytest.raises(TypeError, match=r"the batch has a call of .*\.note"):
        ship.batch_defer([ship.call(order_id=1), note.call(value=1)])
    assert not ProcrastinateJob.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_rollback_removes_the_job(note: Job[...]) -> None:
    with transaction.atomic():
        note.defer(value=1)
        transaction.set_rollback(True)
    assert not ProcrastinateJob.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_rollback_in_a_task_removes_the_job_that_it_deferred(
    note: Job[...], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = worker_app()
    monkeypatch.setattr(app, "tasks", dict(app.tasks))

    @note.task(app)
    def body(*, value: int) -> None:
        with transaction.atomic():
            note.defer(value=value + 1)
            raise ValueError

    note.defer(value=1)
    assert drain_queue(raises=False) == {"failed": 1}


@pytest.mark.django_db(transaction=True)
def test_already_enqueued_leaves_the_transaction_usable(ship: Job[...]) -> None:
    ship.defer(order_id=1)
    with transaction.atomic():
        User.objects.create_user("kept")
        with pytest.raises(AlreadyEnqueued):
            ship.defer(order_id=1)
    assert User.objects.filter(username="kept").exists()
    ProcrastinateJob.objects.all()._raw_delete("default")


@pytest.mark.django_db(transaction=True)
def test_deferring_from_async_code(note: Job[...]) -> None:
    async def view() -> list[int]:
        calls = [note.call(value=2)]
        ids = [await note.defer_async(value=1), *await note.batch_defer_async(calls)]
        # As Django does after a request, in the thread of the request.
        await sync_to_async(connections.close_all)()
        return ids

    assert ProcrastinateJob.objects.filter(pk__in=asyncio.run(view())).count() == 2
    ProcrastinateJob.objects.all()._raw_delete("default")


def test_sync_calls_in_async_code_say_what_to_await(
    note: Job[...], ship: Job[...]
) -> None:
    async def view(job: Job[...], **arguments: object) -> None:
        job.defer(**arguments)

    for failing in (view(note, value=1), view(ship, order_id=1)):
        with pytest.raises(SynchronousOnlyOperation, match="await defer_async"):
            asyncio.run(failing)


def test_deferring_in_a_management_command(note: Job[...]) -> None:
    class Command(BaseCommand):
        def handle(self, *args: str, **options: Any) -> None:
            note.defer(value=1)

    call_command(Command())
    assert queued().args == {"value": 1}


def test_deferring_in_a_migration(note: Job[...]) -> None:
    def forwards(apps: Any, schema_editor: Any) -> None:
        note.defer(value=1)

    class Data(Migration):
        operations = [RunPython(forwards)]

    with connection.schema_editor() as editor:
        Data("data", "users").apply(ProjectState(), editor)
    assert queued().args == {"value": 1}


def test_deferring_without_the_tables_says_what_to_do(note: Job[...]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DROP TYPE procrastinate_job_to_defer_v1 CASCADE")
    with pytest.raises(ConnectorException, match="Migrate first"):
        note.defer(value=1)


def test_deferring_before_django_is_ready_says_so(
    note: Job[...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(procrastinate_app, "current_app", FutureApp())
    with pytest.raises(DjangoNotReady, match="app is ready"):
        note.defer(value=1)
