"""Fixtures of the machinery's own tests, which know nothing of the project."""

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client

from .. import bridge


@pytest.fixture(autouse=True)
def forget_declared_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the jobs that a test declares."""
    monkeypatch.setattr(bridge, "declared", dict(bridge.declared))


@pytest.fixture
def user(db: None) -> Any:
    """A user without permissions."""
    model: Any = get_user_model()
    return model.objects.create_user(**{model.USERNAME_FIELD: "ann"})


@pytest.fixture
def staff(user: Any, client: Client) -> Any:
    """Somebody who may view jobs and nothing else, logged in."""
    user.is_staff = True
    user.save()
    allow(user, "view_queuedjob")
    client.force_login(user)
    return user


def allow(user: Any, *codenames: str) -> None:
    """Give a user permissions."""
    user.user_permissions.add(*Permission.objects.filter(codename__in=codenames))


@pytest.fixture
def ship(db: None) -> bridge.Job[...]:
    """A job in a queue of its own."""

    @bridge.job(name="ship", queue="ships")
    def ship() -> None:
        """Ship."""

    return ship
