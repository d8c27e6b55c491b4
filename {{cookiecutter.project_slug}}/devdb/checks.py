"""A system check for apps that are not wired into the project."""

import sys
from importlib import import_module
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

from .wiring import lines_for


@register()
def check_wiring(**kwargs: Any) -> list[CheckMessage]:
    """Report apps with tasks that are missing from settings, URLs or lint-imports."""
    import_module(settings.ROOT_URLCONF)
    messages: list[CheckMessage] = []
    for tasks in sorted(settings.BASE_DIR.glob("tasks/*.py")):
        app = tasks.stem
        folder = settings.BASE_DIR / app
        installed, included, linted = lines_for(app)
        if not (folder / "apps.py").exists():
            continue
        if not apps.is_installed(app):
            messages.append(
                Error(
                    f"{app} is not installed, but the worker runs its tasks.",
                    hint=str(installed),
                    obj=tasks,
                    id="devdb.E001",
                )
            )
        if (folder / "urls.py").exists() and f"{app}.urls" not in sys.modules:
            messages.append(
                Warning(
                    f"{app}.urls is not included in the root URLs.",
                    hint=str(included),
                    obj=folder / "urls.py",
                    id="devdb.W001",
                )
            )
        if linted.text not in linted.path.read_text(encoding="utf-8"):
            messages.append(
                Warning(
                    f"lint-imports does not check {app}.",
                    hint=str(linted),
                    obj=linted.path,
                    id="devdb.W002",
                )
            )
    return messages
