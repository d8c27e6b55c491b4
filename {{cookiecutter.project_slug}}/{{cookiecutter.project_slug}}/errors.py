"""The error pages: one while something is away for a moment, and one for bugs."""

import sys

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.views import debug, defaults

from jobs.retry import TRANSIENT

UNAVAILABLE = "503.html"


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer 503 if the error is transient, and otherwise 500. For ``handler500``."""
    if isinstance(sys.exception(), TRANSIENT):
        # Without the request: the pages' usual variables come from the database.
        response = HttpResponse(render_to_string(UNAVAILABLE), status=503)
        response.headers["Retry-After"] = "10"
        return response
    return defaults.server_error(request)


class ExceptionReporter(debug.ExceptionReporter):
    """Development's error page, except for transient errors.

    It shows all variables, and looks at the database for some of them: when that is
    away, each would take seconds.
    """

    def get_traceback_html(self) -> str:
        """Return the page."""
        if isinstance(self.exc_value, TRANSIENT):
            return render_to_string(UNAVAILABLE)
        return super().get_traceback_html()
