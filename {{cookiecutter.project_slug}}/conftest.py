"""What all tests share: a real PostgreSQL, and the test kit of the jobs."""

from collections.abc import Iterator

import pytest
from django.test import override_settings

from users.models import User

pytest_plugins = ["devdb.testing", "jobs.testing"]


@pytest.fixture(scope="session", autouse=True)
def quick_passwords() -> Iterator[None]:
    """Hash passwords quickly: those of production take a third of a second each."""
    hashers = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    with override_settings(PASSWORD_HASHERS=hashers):
        yield


@pytest.fixture
def user(db: None) -> User:
    """A user without permissions."""
    return User.objects.create_user("ann", email="ann@example.com")
