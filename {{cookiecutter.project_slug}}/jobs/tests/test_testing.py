"""What the test kit promises to those who test jobs."""

import dataclasses
import time
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import connection
from procrastinate import JobContext
from procrastinate.contrib.django import connector_params
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.exceptions import TaskNotFound

from .. import testing
from ..bridge import Job, job
from ..testing import (
    Wait,
    assert_deferred,
    drain_queue,
    perform_job,
    refute_deferred,
    worker_app,
)

User: Any = get_user_model()

committing = pytest.mark.django_db(transaction=True)


@pytest.fixture
def add_user(monkeypatch: pytest.MonkeyPatch) -> Job[...]:
    """A job without a body, forgotten after the test."""
    app = worker_app()
    monkeypatch.setattr(app, "tasks", dict(app.tasks))

    @job(retry=None)
    def add_user(*, name: str, staff: bool = False) -> None:
        """Add a user."""

    return add_user


@pytest.fixture
def body(add_user: Job[...]) -> None:
    """Implement the job: it fails for one name, and defers itself for another."""

    @add_user.task(worker_app())
    def body(*, name: str, staff: bool = False) -> None:
        if name == "nobody":
            raise ValueError(name)
        User.objects.create_user(name, is_staff=staff)
        if name == "ann":
            # Long enough for the worker to look for a second job and find none.
            time.sleep(0.1)
            add_user.defer(name="bob")


def usernames() -> set[str]:
    return set(User.objects.values_list("username", flat=True))


@pytest.mark.django_db
def test_a_deferred_job_is_found_by_some_of_its_arguments(add_user: Job[...]) -> None:
    pk = add_user.configure(queue="slow").defer(name="ann")
    assert_deferred(add_user)
    assert_deferred(add_user, staff=False)
    assert assert_deferred(add_user, name="ann").pk == pk
    assert assert_deferred(add_user, name="ann").queue_name == "slow"
    refute_deferred(add_user, name="bob")
    refute_deferred(add_user, name="ann", staff=True)
    refute_deferred(dataclasses.replace(add_user, name="other"), name="ann")


@pytest.mark.django_db
def test_a_failure_says_what_is_in_the_queue(add_user: Job[...]) -> None:
    with pytest.raises(AssertionError, match="It is empty"):
        assert_deferred(add_user)
    add_user.defer(name="ann")
    with pytest.raises(AssertionError, match=r"It has:\n.*add_user\(name='ann'\)"):
        assert_deferred(add_user, name="bob")
    with pytest.raises(AssertionError, match=r"add_user\(name='ann'\) is in the queue"):
        refute_deferred(add_user, name="ann")


@pytest.mark.django_db
def test_an_unknown_argument_is_rejected(
    add_user: Job[...],
) -> None:
    with pytest.raises(TypeError, match="nmae"):
        refute_deferred(add_user, nmae="ann")


@pytest.mark.django_db
def test_a_body_is_performed_in_the_tests_transaction(
    add_user: Job[...], body: None
) -> None:
    User.objects.create_user("bob")
    perform_job(add_user, name="ann", staff=True)
    assert usernames() == {"ann", "bob"}
    assert_deferred(add_user, name="bob")


@pytest.mark.django_db
def test_an_async_body_with_a_context_is_performed(add_user: Job[...]) -> None:
    @add_user.task(worker_app(), pass_context=True)
    async def body(context: JobContext, *, name: str, staff: bool = False) -> None:
        assert not context.should_abort()
        assert context.job.task_kwargs == {"name": name}
        await sync_to_async(User.objects.create_user)(name)

    perform_job(add_user, name="ann")
    assert usernames() == {"ann"}


@pytest.mark.parametrize("arguments", [{}, {"nmae": "ann"}, {"name": object()}])
def test_performing_checks_the_arguments(
    add_user: Job[...], body: None, arguments: dict[str, Any]
) -> None:
    with pytest.raises(TypeError, match="add_user: "):
        perform_job(add_user, **arguments)


def test_a_body_gets_arguments_that_went_through_json(add_user: Job[...]) -> None:
    given = ["ann"]

    @add_user.task(worker_app())
    def body(*, name: Any, staff: bool = False) -> bool:
        return name == given and name is not given

    assert perform_job(add_user, name=given)


@committing
@pytest.mark.parametrize("left", ["ann", "bob"])
def test_no_job_of_another_test_is_left(add_user: Job[...], left: str) -> None:
    assert not ProcrastinateJob.objects.exists()
    add_user.defer(name=left)


@committing
def test_a_drain_runs_jobs_and_those_that_they_defer(
    add_user: Job[...], body: None
) -> None:
    add_user.defer(name="ann")
    assert drain_queue() == {"succeeded": 2}
    assert usernames() == {"ann", "bob"}
    refute_deferred(add_user)


@committing
def test_a_drain_leaves_no_connection_open(wait_until: Wait) -> None:
    def connections() -> int:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database()"
            )
            (count,) = cursor.fetchone()
        return int(count)

    before = connections()
    drain_queue()
    wait_until(lambda: connections() <= before)


@committing
def test_a_drain_raises_what_a_body_raises(add_user: Job[...], body: None) -> None:
    add_user.defer(name="nobody")
    with pytest.raises(ValueError, match="nobody"):
        drain_queue()


@committing
def test_a_drain_can_count_failures(add_user: Job[...], body: None) -> None:
    add_user.defer(name="nobody")
    add_user.defer(name="carl")
    assert drain_queue(raises=False) == {"failed": 1, "succeeded": 1}
    assert usernames() == {"carl"}


@committing
def test_a_drain_names_a_job_without_a_body(add_user: Job[...]) -> None:
    add_user.defer(name="ann")
    with pytest.raises(TaskNotFound, match="add_user"):
        drain_queue(raises=False)


@pytest.mark.django_db
def test_a_drain_is_rejected_in_a_transaction(add_user: Job[...]) -> None:
    add_user.defer(name="ann")
    with pytest.raises(RuntimeError, match="transaction=True"):
        drain_queue()


@committing
def test_a_drain_rejects_a_database_that_is_not_the_tests(
    add_user: Job[...], body: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_user.defer(name="ann")
    elsewhere = {**connector_params(), "dbname": "postgres"}
    monkeypatch.setattr(testing, "connector_params", lambda: elsewhere)
    with pytest.raises(RuntimeError, match="postgres is not the tests' database"):
        drain_queue()
    assert_deferred(add_user, name="ann")


@committing
def test_a_drain_rejects_the_sites_database(
    add_user: Job[...], body: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_user.defer(name="ann")
    address = f"postgresql:///{connection.settings_dict['NAME']}"
    with monkeypatch.context() as patch:
        patch.setattr(settings, "DATABASE_URL", address)
        with pytest.raises(RuntimeError, match="is not the tests' database"):
            drain_queue()
    assert_deferred(add_user, name="ann")


def test_the_workers_app_connects_to_no_database_by_itself() -> None:
    with pytest.raises(RuntimeError, match="drain_queue"):
        worker_app().run_worker(wait=False)
