"""Which error page a request gets when a view has failed."""

import sys

from django.db import DataError
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.safestring import SafeString
from django.views import debug, defaults

from jobs.retry import TRANSIENT

UNAVAILABLE = "503.html"


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer 503 if the error is transient, and 500 if it is a bug. For ``handler500``.

    A value in the URL that the database cannot take, as in the admin's filters, is 400.
    """
    error = sys.exception()
    if isinstance(error, DataError) and request.method in ("GET", "HEAD"):
        return defaults.bad_request(request, error)
    if isinstance(error, TRANSIENT):
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

    def get_traceback_html(self) -> SafeString:
        """Return the page."""
        if isinstance(self.exc_value, TRANSIENT):
            return render_to_string(UNAVAILABLE)
        return super().get_traceback_html()
