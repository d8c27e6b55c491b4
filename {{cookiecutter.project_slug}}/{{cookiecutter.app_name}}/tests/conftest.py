"""Fixtures of this app's tests."""

from collections.abc import Callable, Iterator
from datetime import UTC
from io import BytesIO

import pytest
from django.contrib.auth.models import Permission
from django.utils import timezone
from pytest_django import Settings

from users.models import User

CsvFile = Callable[..., BytesIO]


@pytest.fixture(autouse=True)
def english_in_utc(settings: Settings) -> Iterator[None]:
    """Compare texts in English and times in UTC, whatever the project's settings say."""
    settings.LANGUAGE_CODE = "en-us"
    # Not by TIME_ZONE: Django closes the pool with each change of it.
    with timezone.override(UTC):
        yield


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
