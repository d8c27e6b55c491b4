"""Fixtures of this app's tests."""

from collections.abc import Callable
from io import BytesIO

import pytest
from django.contrib.auth.models import Permission
from pytest_django import Settings

from users.models import User

CsvFile = Callable[..., BytesIO]


@pytest.fixture(autouse=True)
def english_in_utc(settings: Settings) -> None:
    """Compare texts in English and times in UTC, whatever the project's settings say."""
    settings.LANGUAGE_CODE = "en-us"
    # Each change of it makes Django close its connection pool.
    if settings.TIME_ZONE != "UTC":
        settings.TIME_ZONE = "UTC"


@pytest.fixture
def user(user: User) -> User:
    """A user who may import contacts."""
    user.user_permissions.set(
        Permission.objects.filter(codename__in=["add_contact", "change_contact"])
    )
    return user


@pytest.fixture
def csv_file() -> CsvFile:
    """Return a function that makes an open file of lines."""

    def make(*lines: str, encoding: str = "utf-8") -> BytesIO:
        return BytesIO("".join(f"{line}\n" for line in lines).encode(encoding))

    return make
