"""What the bridge promises to those who declare and defer jobs."""

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from django.db import connections, transaction
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob

from jobs import bridge
from jobs.bridge import AlreadyEnqueued, Job, job
from users.models import User


@pytest.fixture(autouse=True)
def no_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the jobs that a test declares."""
    monkeypatch.setattr(bridge, "declared", dict(bridge.declared))


@pytest.fixture
def ship(db: None) -> Job[Any]:
    """A job with everything that a declaration can say."""

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
def note(db: None) -> Job[Any]:
    """A job that takes anything."""

    @job()
    def note(*, value: object) -> None:
        """Note a value."""

    return note


def queued() -> ProcrastinateJob:
    job: ProcrastinateJob = ProcrastinateJob.objects.get()
    return job


def test_the_declaration_is_what_the_queue_gets(ship: Job[Any]) -> None:
    assert ship.defer(order_id=1) == queued().pk
    found = queued()
    assert (found.queue_name, found.priority) == ("mail", 3)
    assert (found.lock, found.queueing_lock) == ("order:1", "ship:1:air")
    assert found.args == {"order_id": 1}
    assert found.task_name.endswith(".ship")


def test_one_call_can_say_more(ship: Job[Any]) -> None:
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


def test_a_captured_delay_counts_from_each_defer(note: Job[Any]) -> None:
    later = note.configure(schedule_in=timedelta(hours=1))
    later.defer(value=1)
    later.defer(value=2)
    first, second = ProcrastinateJob.objects.order_by("pk")
    assert first.scheduled_at is not None
    assert second.scheduled_at is not None
    assert first.scheduled_at < second.scheduled_at


def test_an_unknown_option_is_refused(note: Job[Any]) -> None:
    options: dict[str, Any] = {"qeue": "mail"}
    with pytest.raises(TypeError, match="no defer option 'qeue'"):
        note.configure(**options)


def test_two_times_are_refused(note: Job[Any]) -> None:
    with pytest.raises(ValueError, match="not both"):
        note.configure(schedule_at=timezone.now(), schedule_in=timedelta(hours=1))


@pytest.mark.parametrize(
    "arguments", [{}, {"order_pk": 1}, {"order_id": 1, "to": "Rome"}]
)
def test_wrong_keywords_are_refused_at_the_call(
    ship: Job[Any], arguments: dict[str, Any]
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
        "\ud800",
    ],
)
def test_what_json_cannot_carry_is_refused_at_the_call(
    note: Job[Any], value: object
) -> None:
    with pytest.raises(TypeError, match="JSON cannot carry value="):
        note.defer(value=value)
    assert not ProcrastinateJob.objects.exists()


def test_a_declaration_names_every_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TypeError, match="needs a name"):

        @job()
        def anything(**rest: int) -> None:
            """Take what comes."""


def test_a_name_is_declared_once(note: Job[Any]) -> None:
    with pytest.raises(TypeError, match="declared twice"):

        @job(name=note.name)
        def other() -> None:
            """Have the same name."""


def test_a_batch_is_one_statement(
    note: Job[Any], django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(1):
        ids = note.batch_defer(note.call(value=value) for value in range(100))
    found = ProcrastinateJob.objects.in_bulk(ids)
    assert [found[pk].args["value"] for pk in ids] == list(range(100))
    assert note.batch_defer([]) == []


@pytest.mark.django_db(transaction=True)
def test_a_rollback_takes_the_job_along(note: Job[Any]) -> None:
    with transaction.atomic():
        note.defer(value=1)
        transaction.set_rollback(True)
    assert not ProcrastinateJob.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_job_that_waits_already_leaves_the_transaction_usable(ship: Job[Any]) -> None:
    ship.defer(order_id=1)
    with transaction.atomic():
        User.objects.create_user("kept")
        with pytest.raises(AlreadyEnqueued):
            ship.defer(order_id=1)
    assert User.objects.filter(username="kept").exists()
    ProcrastinateJob.objects.all()._raw_delete("default")


@pytest.mark.django_db(transaction=True)
def test_deferring_from_async_code(note: Job[Any]) -> None:
    async def view() -> list[int]:
        calls = [note.call(value=2)]
        ids = [await note.defer_async(value=1), *await note.batch_defer_async(calls)]
        # As Django does after a request, in the thread of the request.
        await sync_to_async(connections.close_all)()
        return ids

    assert ProcrastinateJob.objects.filter(pk__in=asyncio.run(view())).count() == 2
    ProcrastinateJob.objects.all()._raw_delete("default")
