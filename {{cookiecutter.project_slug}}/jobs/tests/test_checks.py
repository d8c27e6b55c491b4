"""Checks of settings, periodic tasks and waiting jobs. Others need a whole project."""

from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from procrastinate.contrib.django import app as django_app
from pytest_django import Settings

from .. import bridge, checks, upstream
from ..bridge import job
from ..checks import check_jobs, check_settings, check_waiting_jobs
from ..testing import worker_app

app: Any = worker_app()


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("JOBS_MAX_WAIT", {"mail": 60}, "jobs.E010"),
        ("WORKER_CONCURRENCY", 1_000, "jobs.W004"),
        ("JOBS_KEPT", timedelta(hours=1), "jobs.W005"),
        ("USE_TZ", False, "jobs.E012"),
    ],
)
def test_a_harmful_setting_is_reported(
    settings: Settings, name: str, value: object, found: str
) -> None:
    settings.JOBS_LANES = False
    setattr(settings, name, value)
    assert found in [message.id for message in check_settings()]


@pytest.mark.parametrize("name", ["TIME_ZONE", "OPTIONS"])
def test_what_a_reset_session_loses_is_reported(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    value: Any = {"TIME_ZONE": "Asia/Tokyo", "OPTIONS": {"assume_role": "owner"}}[name]
    monkeypatch.setitem(settings.DATABASES["default"], name, value)
    assert "jobs.E012" in [message.id for message in check_settings()]


def test_sensible_settings_pass(settings: Settings) -> None:
    settings.JOBS_MAX_WAIT = {"default": 1, "mail": 2}
    settings.WORKER_CONCURRENCY = 1
    settings.JOBS_KEPT = timedelta(days=1)
    assert check_settings() == []


def test_the_lock_of_a_periodic_task_has_no_fields(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app, "tasks", dict(app.tasks))
    with mock.patch.dict(upstream.periodic_tasks(app)):
        tell = app.task(name="tell", lock="tell:{timestamp}")(lambda timestamp: None)
        app.periodic(cron="0 8 * * *")(tell)
        assert "jobs.E011" in [message.id for message in check_jobs()]


@pytest.mark.django_db
def test_waiting_jobs_whose_arguments_no_longer_fit_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app, "tasks", dict(app.tasks))
    monkeypatch.setattr(checks, "declared", bridge.declared)

    def ship(*, order_id: int) -> None:
        """Ship an order."""

    declared = job(name="ship")(ship)
    declared.task(app)(ship)
    declared.defer(order_id=1)
    for _ in range(2):
        django_app.configure_task("ship").defer(order=1)
    (message,) = check_waiting_jobs(databases=["default"])
    assert message.id == "jobs.W006"
    assert message.msg.startswith("2 waiting jobs of ship: ")
