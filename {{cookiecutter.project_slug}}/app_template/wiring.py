"""The two lines that make an app part of the project, and where they go."""

import inspect
import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from django.conf import settings

MARK = "# startapp adds apps above this line."


@dataclass(frozen=True)
class Line:
    """A line of a list in one of the project's modules.

    Args:
        text: The line.
        target: The list.
        module: The module's dotted path.
    """

    text: str
    target: str
    module: str

    @property
    def path(self) -> Path:
        """The module's file."""
        return Path(inspect.getfile(import_module(self.module)))

    def __str__(self) -> str:
        return f"Add to {self.target} in {self.module}: {self.text}"

    def added(self) -> bytes | None:
        """Return the module with the line above the mark, or None without a mark."""
        # Bytes, so that the ends of the other lines stay as they are.
        module = self.path.read_bytes()
        mark = rb"(?m)^([ \t]*)%s" % re.escape(MARK.encode())
        place = re.search(mark, module)
        if not place:
            return None
        line = place[1] + self.text.encode() + b"\n"
        return module[: place.start()] + line + module[place.start() :]


def lines(app: str) -> tuple[Line, Line]:
    """Return the lines that make an app installed, and its pages reachable."""
    return (
        Line(f'"{app}",', "INSTALLED_APPS", settings.SETTINGS_MODULE),
        Line(f'path("", include("{app}.urls")),', "urlpatterns", settings.ROOT_URLCONF),
    )
