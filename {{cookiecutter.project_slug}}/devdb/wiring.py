"""The three lines that make an app part of the project, and their places."""

import inspect
import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from django.conf import settings

MARK = "# startapp adds apps above this line."


@dataclass(frozen=True)
class Line:
    """A line that belongs in a list in one of the project's files.

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

    def added_to_file(self) -> bytes | None:
        """Return the file's content with the line added above the mark.

        Returns:
            None if the file has no mark.
        """
        # As bytes, to keep the endings of the other lines.
        content = self.path.read_bytes()
        mark = rb"(?m)^([ \t]*)%s" % re.escape(MARK.encode())
        place = re.search(mark, content)
        if not place:
            return None
        line = place[1] + self.text.encode() + b"\n"
        return content[: place.start()] + line + content[place.start() :]


def lines_for(app: str) -> tuple[Line, Line, Line]:
    """Return the lines that install an app, include its URLs and check its imports."""
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
