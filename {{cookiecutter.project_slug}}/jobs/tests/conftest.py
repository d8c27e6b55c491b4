"""Fixtures of the machinery's own tests, which know nothing of the project."""

from typing import Any

import pytest
from django.contrib.auth import get_user_model

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
def ship(db: None) -> bridge.Job[...]:
    """A job in a queue of its own."""

    @bridge.job(name="ship", queue="ships")
    def ship() -> None:
        """Ship."""

    return ship
