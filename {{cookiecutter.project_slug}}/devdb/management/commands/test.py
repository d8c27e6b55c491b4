"""Django's command `test`, which would find no tests: they are written for pytest."""

from typing import Any

from django.core.management.base import CommandError
from django.core.management.commands import test


class Command(test.Command):
    """Say which command runs the tests."""

    def handle(self, *test_labels: str, **options: Any) -> None:
        """Run nothing.

        Raises:
            CommandError: Always.
        """
        raise CommandError(
            "The tests run with pytest: `uv run pytest`, or `uv run pytest -n auto` to"
            " use all processors."
        )
