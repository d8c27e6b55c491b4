"""The checks of the settings. Those of jobs and tasks need a whole project."""

from datetime import timedelta
from typing import Any

import pytest
from pytest_django import Settings

from ..checks import check_settings


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
