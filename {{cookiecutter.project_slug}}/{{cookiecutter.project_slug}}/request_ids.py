"""An id for each request, on every line that is logged while it is answered."""

import logging
from collections.abc import Callable
from contextvars import ContextVar
from uuid import uuid4

from django.http import HttpRequest, HttpResponse

_request_id: ContextVar[str] = ContextVar("request_id")


def with_request_id(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Give each request an id, the proxy's if it sent one. A middleware."""

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
        """Change the record, and let it pass."""
        if request_id := _request_id.get(""):
            record.request_id = request_id
        return True
