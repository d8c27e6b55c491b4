"""Start an app that comes with a service layer, jobs and tests."""

import keyword
import re
import shutil
import symtable
import sys
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.management.base import CommandError
from django.core.management.commands import startapp
from django.urls import Resolver404, get_resolver, resolve

from ...wiring import Line, lines_for

TEMPLATE = settings.BASE_DIR / "app_template"
"""Laid out like the project; `app_name` in a path becomes the app's name."""

SKIPPED = ("build", "dist", "node_modules", "venv")
"""Folders that linters ignore, even if there is code in them."""


class Command(startapp.Command):
    """Django's command, with the project's template, and the app wired in."""

    help = (
        "Start an app with services, jobs, pages and tests, and add it to the project. "
        "With a directory or a template, or without the project's app_template/, it "
        "does what Django's own command does."
    )

    def handle(self, **options: Any) -> None:  # type: ignore[override]
        """Create the app in a temporary folder, then move in all of it or nothing."""
        custom = options["directory"] or options["template"]
        if custom or not TEMPLATE.exists():
            return super().handle(**options)
        name = options["name"]
        if problem := problem_with(name):
            raise CommandError(f"{name!r} {problem}: choose another name.")
        with TemporaryDirectory() as folder, ExitStack() as undo:
            staged = Path(folder, name)
            staged.mkdir()
            options |= {"directory": str(staged), "template": str(TEMPLATE)}
            super().handle(**options)
            try:
                missing = put_in_place(name, staged, undo)
            except OSError as error:
                raise CommandError(f"{error}: nothing was changed.") from error
            undo.pop_all()
        self.stdout.write(f"Created {name}/ and tasks/{name}.py.")
        for line in missing:
            self.stdout.write(str(line))
        self.stdout.write("Next: uv run manage.py migrate")


def problem_with(name: str) -> str:
    """Return why an app cannot have this name, or an empty string."""
    if not re.fullmatch("[a-z]([a-z0-9_]{0,28}[a-z0-9])?", name):
        return "is not a lower-case ASCII identifier of at most 30 characters"
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        return "is a keyword of Python"
    if name in SKIPPED:
        return "is a folder name that linters ignore"
    if (settings.BASE_DIR / name).exists():
        return "already exists"
    if name in sys.stdlib_module_names or find_spec(name):
        return "is the name of an importable Python module"
    if any(name == config.label for config in apps.get_app_configs()):
        return "is the label of an installed app"
    # The module tasks/NAME.py becomes an attribute of the package.
    package = (settings.BASE_DIR / "tasks/__init__.py").read_text(encoding="utf-8")
    if name in symtable.symtable(package, "tasks", "exec").get_identifiers():
        return "is used in tasks/__init__.py for something else"
    if name in get_resolver().namespace_dict:
        return "is a namespace of the project's URLs"
    with suppress(Resolver404):
        if not resolve(f"/{name}/").kwargs:
            return "is the path of a page"
    return ""


def put_in_place(name: str, staged: Path, undo: ExitStack) -> list[Line]:
    """Move an app's files into the project and wire it in.

    Args:
        name: The app.
        staged: The folder of its files, laid out like the project.
        undo: Receives the steps that undo all of this.

    Returns:
        The lines that could not be added because their files have no mark.
    """
    base: Path = settings.BASE_DIR
    files = [path for path in staged.rglob("*") if path.is_file()]
    targets = {base / path.relative_to(staged): path for path in files}
    if taken := [target for target in targets if target.exists()]:
        raise FileExistsError(f"{taken[0].relative_to(base)} already exists")
    undo.callback(shutil.rmtree, base / name, ignore_errors=True)
    for target, path in targets.items():
        undo.callback(target.unlink, missing_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    missing = []
    for line in lines_for(name):
        if (content := line.added_to_file()) is None:
            missing.append(line)
        else:
            undo.callback(line.path.write_bytes, line.path.read_bytes())
            line.path.write_bytes(content)
    return missing
