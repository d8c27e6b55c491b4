"""Shared by all tests: a real PostgreSQL, the jobs' test kit and a user."""

from collections.abc import Iterator

import pytest
from django.test import override_settings

from users.models import User

pytest_plugins = ["devdb.testing", "jobs.testing"]


@pytest.fixture(scope="session", autouse=True)
def quick_passwords() -> Iterator[None]:
    """Use a fast password hasher: the default one takes a third of a second."""
    hashers = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    with override_settings(PASSWORD_HASHERS=hashers):
        yield


@pytest.fixture
def user(db: None) -> User:
    """A user without permissions."""
    return User.objects.create_user("ann", email="ann@example.com")
