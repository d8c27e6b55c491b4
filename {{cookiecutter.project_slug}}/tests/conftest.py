"""Fixtures for all tests. They run on a PostgreSQL as real as the site's."""

from collections.abc import Callable
from io import BytesIO

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission

from devdb import server
from users.models import User

pytest_plugins = ["tests.kit"]

CsvFile = Callable[..., BytesIO]


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None,
) -> None:
    """Start the development database, on which pytest-django makes the tests' own."""
    if settings.DEVDB:
        server.start(settings.BASE_DIR)


@pytest.fixture
def user(db: None) -> User:
    """A user who may import contacts."""
    user = User.objects.create_user("ann", email="ann@example.com")
    user.user_permissions.set(
        Permission.objects.filter(codename__in=["add_contact", "change_contact"])
    )
    return user


@pytest.fixture
def csv_file() -> CsvFile:
    """Make an open file of lines of text."""

    def make(*lines: str, encoding: str = "utf-8") -> BytesIO:
        return BytesIO("".join(f"{line}\n" for line in lines).encode(encoding))

    return make
