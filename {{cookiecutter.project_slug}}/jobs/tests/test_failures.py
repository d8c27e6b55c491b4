"""What is stored of a failed attempt."""

import asyncio
from typing import Any, cast

import pytest
from django.contrib.auth import get_user_model
from django.db import IntegrityError, transaction
from procrastinate import JobContext, PsycopgConnector
from procrastinate.contrib.django import connector_params
from procrastinate.exceptions import JobAborted
from procrastinate.job_context import AbortReason
from procrastinate.jobs import Job

from ..failures import describe, store_failures
from ..models import JobFailure
from ..testing import worker_app

User: Any = get_user_model()
app = worker_app()


def attempt(error: BaseException, reason: AbortReason | None = None) -> None:
    """Let a job's first attempt raise, on the tests' database."""

    async def body() -> None:
        raise error

    async def go() -> None:
        connector = PsycopgConnector(kwargs=connector_params())
        with app.replace_connector(connector) as tests_app:
            context = JobContext(
                app=tests_app,
                job=Job(id=7, queue="q", lock=None, queueing_lock=None, task_name="t"),
                start_timestamp=0,
                abort_reason=lambda: reason,
            )
            async with tests_app.open_async():
                await store_failures(body, context, cast(Any, None))

    asyncio.run(go())


@pytest.mark.django_db(transaction=True)
def test_a_failed_attempt_is_stored_and_raised() -> None:
    with pytest.raises(KeyError):
        attempt(KeyError("nothing\0here"))
    kept = JobFailure.objects.get()
    assert (kept.job_id, kept.attempt, kept.exception) == (7, 1, "KeyError")
    assert kept.message == r"'nothing\x00here'"
    assert "in body" in kept.traceback
    assert kept.host
    assert kept.duration
    assert kept.duration > 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("error", [JobAborted(), asyncio.CancelledError()])
def test_a_job_that_is_cut_short_has_not_failed(error: BaseException) -> None:
    with pytest.raises(type(error)):
        attempt(error, AbortReason.SHUTDOWN)
    assert not JobFailure.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_an_async_job_that_a_user_stops_is_aborted_not_retried() -> None:
    with pytest.raises(JobAborted):
        attempt(asyncio.CancelledError(), AbortReason.USER_REQUEST)


@pytest.mark.parametrize("problem", [ConnectionError, asyncio.CancelledError])
def test_the_error_is_raised_even_if_it_cannot_be_stored(
    problem: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def do_nothing(*args: object, **kwargs: object) -> None:
        pass

    async def fail(*args: object, **kwargs: object) -> Any:
        raise problem

    monkeypatch.setattr(PsycopgConnector, "execute_query_all_async", fail)
    monkeypatch.setattr(PsycopgConnector, "open_async", do_nothing)
    with pytest.raises(KeyError):
        attempt(KeyError("the job's own"))
    assert "Could not store the failure of job 7" in caplog.text


def test_values_of_rows_are_not_stored(user: Any) -> None:
    error = RuntimeError("No user")
    try:
        with transaction.atomic():
            User.objects.create_user(user.username)
    except IntegrityError as caught:
        error.__cause__ = caught
    for kept in (describe(error), describe(caught_cause(error))):
        text = "".join(kept.values())
        assert "unique constraint" in text
        assert "DETAIL" not in text
        assert f"=({user.username})" not in text


def caught_cause(error: BaseException) -> BaseException:
    assert error.__cause__
    return error.__cause__


def test_local_variables_are_not_stored() -> None:
    def fail() -> None:
        password = "hunter" + "2"
        raise ValueError(len(password))

    with pytest.raises(ValueError, match="7") as caught:
        fail()
    assert "hunter2" not in "".join(describe(caught.value).values())


def test_the_end_of_a_long_traceback_is_stored() -> None:
    error = ValueError("ü" * 50_000 + "\ud800 the end")
    kept = describe(error)
    assert len(kept["traceback"].encode()) <= 16_000
    assert kept["traceback"].endswith("the end\n")
    assert len(kept["message"]) <= 1_000
