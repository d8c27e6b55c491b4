"""An id for each request, added to every line that is logged during the request."""

import logging
from contextvars import ContextVar
from uuid import uuid4

from django.http import HttpRequest, HttpResponse

from .middleware import View

_request_id: ContextVar[str] = ContextVar("request_id")


def with_request_id(get_response: View) -> View:
    """Middleware: give each request an id, or keep the one that a proxy sent."""

    def middleware(request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Request-ID", "")[:64]
        token = _request_id.set(given or uuid4().hex)
        try:
            return get_response(request)
        finally:
            _request_id.reset(token)

    return middleware


class RequestIDFilter(logging.Filter):
    """Add ``request_id`` to what is logged during a request."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the id, and keep the record."""
        if request_id := _request_id.get(""):
            record.request_id = request_id
        return True
