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
    """A line that an app needs in one of the project's modules.

    Args:
        text: The line.
        purpose: The list that it belongs to.
        module: The module that has the list.
    """

    text: str
    purpose: str
    module: str

    @property
    def path(self) -> Path:
        """The module's file."""
        return Path(inspect.getfile(import_module(self.module)))

    def add(self) -> bool:
        """Write the line above the mark; tell whether there is one."""
        # Bytes, so that the ends of the other lines stay as they are.
        before = self.path.read_bytes()
        mark, line = re.escape(MARK.encode()), self.text.encode()
        after = re.sub(rb"(?m)^([ \t]*)(?=%s)" % mark, rb"\1%s\n\1" % line, before)
        self.path.write_bytes(after)
        return after != before

    def __str__(self) -> str:
        path = self.path.relative_to(settings.BASE_DIR)
        return f"add to {self.purpose} in {path}:\n    {self.text}"


def lines(app: str) -> tuple[Line, Line]:
    """Return the lines that make an app installed, and its pages reachable."""
    return (
        Line(f'"{app}",', "INSTALLED_APPS", settings.SETTINGS_MODULE),
        Line(f'path("", include("{app}.urls")),', "urlpatterns", settings.ROOT_URLCONF),
    )
