"""The checks of the settings; those of jobs and tasks need a project around them."""

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
def test_a_setting_that_does_harm_is_named(
    settings: Settings, name: str, value: object, found: str
) -> None:
    setattr(settings, name, value)
    assert found in [message.id for message in check_settings()]


def test_sensible_settings_are_left_alone(settings: Settings) -> None:
    settings.JOBS_MAX_WAIT = {"default": 1, "mail": 2}
    settings.WORKER_CONCURRENCY = 1
    settings.JOBS_KEPT = timedelta(days=1)
    assert check_settings() == []
