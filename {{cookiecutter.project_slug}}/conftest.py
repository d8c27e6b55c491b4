"""What all tests share: a real PostgreSQL, and the test kit of the jobs."""

import pytest

from users.models import User

pytest_plugins = ["devdb.testing", "jobs.testing"]


@pytest.fixture
def user(db: None) -> User:
    """A user without permissions."""
    return User.objects.create_user("ann", email="ann@example.com")
