"""The three lines that make an app part of the project, and where they go."""

import inspect
import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from django.conf import settings

MARK = "# startapp adds apps above this line."


@dataclass(frozen=True)
class Line:
    """A line of a list in one of the project's files.

    Args:
        text: The line.
        target: The list.
        path: The file.
    """

    text: str
    target: str
    path: Path

    def __str__(self) -> str:
        place = self.path.relative_to(settings.BASE_DIR)
        return f"Add to {self.target} in {place}: {self.text}"

    def added(self) -> bytes | None:
        """Return the file with the line above the mark, or None without a mark."""
        # Bytes, so that the ends of the other lines stay as they are.
        content = self.path.read_bytes()
        mark = rb"(?m)^([ \t]*)%s" % re.escape(MARK.encode())
        place = re.search(mark, content)
        if not place:
            return None
        line = place[1] + self.text.encode() + b"\n"
        return content[: place.start()] + line + content[place.start() :]


def lines(app: str) -> tuple[Line, Line, Line]:
    """Return the lines that install an app, include its pages and lint its imports."""
    return (
        Line(f'"{app}",', "INSTALLED_APPS", _file(settings.SETTINGS_MODULE)),
        Line(
            f'path("", include("{app}.urls")),',
            "urlpatterns",
            _file(settings.ROOT_URLCONF),
        ),
        Line(f'"{app}",', "root_packages", settings.BASE_DIR / "pyproject.toml"),
    )


def _file(module: str) -> Path:
    return Path(inspect.getfile(import_module(module)))
