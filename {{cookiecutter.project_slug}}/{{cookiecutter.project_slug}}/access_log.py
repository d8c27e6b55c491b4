"""A log line for each request, in place of the web server's."""

import logging
import time

from django.http import HttpRequest, HttpResponse

from .middleware import View

logger = logging.getLogger(__name__)


def log_requests(get_response: View) -> View:
    """Middleware: log each request with its status, duration and client."""

    def middleware(request: HttpRequest) -> HttpResponse:
        start = time.perf_counter()
        response = get_response(request)
        path, match = request.path, request.resolver_match
        # Whoever has the link to reset a password can log in.
        if match and (token := match.kwargs.get("token")):
            path = path.replace(token, "…")
        fields = {
            "method": request.method,
            "path": path,
            "status": response.status_code,
            "duration": round(time.perf_counter() - start, 4),
            "client": request.META["REMOTE_ADDR"],
        }
        logger.info("%s %s", request.method, path, extra=fields)
        return response

    return middleware
