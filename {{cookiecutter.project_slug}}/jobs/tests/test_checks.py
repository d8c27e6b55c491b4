"""The checks of the settings. Those of jobs and tasks need a whole project."""

from datetime import timedelta

import pytest
from pytest_django import Settings

from ..checks import check_settings


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("JOBS_MAX_WAIT", {"mail": 60}, "jobs.E010"),
        ("WORKER_CONCURRENCY", 1_000, "jobs.W004"),
        ("JOBS_KEPT", timedelta(hours=1), "jobs.W005"),
    ],
)
def test_a_harmful_setting_is_reported(
    settings: Settings, name: str, value: object, found: str
) -> None:
    settings.JOBS_LANES = False
    setattr(settings, name, value)
    assert found in [message.id for message in check_settings()]


def test_sensible_settings_pass(settings: Settings) -> None:
    settings.JOBS_MAX_WAIT = {"default": 1, "mail": 2}
    settings.WORKER_CONCURRENCY = 1
    settings.JOBS_KEPT = timedelta(days=1)
    assert check_settings() == []
