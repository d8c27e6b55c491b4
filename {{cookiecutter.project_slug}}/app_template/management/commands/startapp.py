"""Start an app with the service layer, its jobs and their tests in place."""

import keyword
import re
import shutil
import symtable
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.management.base import CommandError
from django.core.management.commands import startapp
from django.urls import Resolver404, get_resolver, resolve

from ...wiring import lines

TEMPLATE = Path(__file__).parents[2] / "app"
"""Laid out like the project; `app_name` in a path becomes the app's name."""

SKIPPED = ("build", "dist", "node_modules", "venv")
"""Folders that linters leave out."""


class Command(startapp.Command):
    """Django's own command, with the project's template and the wiring of the app."""

    help = (
        "Start an app with services, jobs, pages and tests, and wire it into the"
        " project. With --template or a directory, do what Django's startapp does."
    )

    def handle(self, **options: Any) -> None:
        """Make the app elsewhere, then put it in place: all of it or nothing."""
        if options["template"] or options["directory"]:
            return super().handle(**options)
        name = options["name"]
        if problem := objection(name):
            raise CommandError(f"{name!r} {problem}: choose another name.")
        with TemporaryDirectory() as folder, ExitStack() as undo:
            made = Path(folder, name)
            options |= {"template": str(TEMPLATE), "directory": str(made)}
            super().handle(**options)
            try:
                put_in_place(made, name, undo)
                missing = [line for line in lines(name) if not wire(line, undo)]
            except OSError as error:
                raise CommandError(f"{error}; nothing was changed.") from error
            undo.pop_all()
        self.stdout.write(f"Made {name}/, tasks/{name}.py and tests/test_{name}.py.")
        for line in missing:
            self.stdout.write(f"One line is yours to {line}")
        self.stdout.write("Then: uv run manage.py migrate")
