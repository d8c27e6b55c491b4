"""What the project does before and after each view; see also MIDDLEWARE."""

from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.exceptions import BadRequest, MiddlewareNotUsed
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.cache import patch_cache_control

View = Callable[[HttpRequest], HttpResponse]


def with_client_address(get_response: View) -> View:
    """Behind a proxy, use the last address in X-Forwarded-For, which the proxy added.

    Clients can invent the addresses before it.

    Raises:
        MiddlewareNotUsed: `TRUSTED_PROXY` is off.
    """
    if not settings.TRUSTED_PROXY:
        raise MiddlewareNotUsed

    def middleware(request: HttpRequest) -> HttpResponse:
        hops = request.headers.get("X-Forwarded-For", "")
        if address := hops.rpartition(",")[2].strip():
            request.META["REMOTE_ADDR"] = address
        return get_response(request)

    return middleware


def check_body(get_response: View) -> View:
    """Reject a body before it is read, which CsrfViewMiddleware would do.

    Without a login, it may have DATA_UPLOAD_MAX_MEMORY_SIZE, else MAX_BODY_SIZE.
    """

    def middleware(request: HttpRequest) -> HttpResponse:
        if (request.encoding or "utf-8").lower() not in ("utf-8", "utf8"):
            raise BadRequest("the charset is not UTF-8")
        size = int(request.META.get("CONTENT_LENGTH") or 0)
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE or 0
        if size > limit and request.user.is_authenticated:
            limit = settings.MAX_BODY_SIZE
        if size > limit:
            page = render_to_string("413.html", {"limit": limit})
            return HttpResponse(page, status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return get_response(request)

    return middleware


def forbid_caching(get_response: View) -> View:
    """Keep pages, which show personal data, out of caches, unless a view allows it."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if not response.has_header("Cache-Control"):
            patch_cache_control(response, private=True, no_store=True)
        return response

    return middleware


def with_time_zone(get_response: View) -> View:
    """Use the browser's time zone, from the cookie that time-zone.js sets."""

    def middleware(request: HttpRequest) -> HttpResponse:
        zone = None  # TIME_ZONE, if there is no cookie or no such zone.
        with suppress(KeyError, OSError, ValueError):
            zone = ZoneInfo(request.COOKIES["timezone"])
        with timezone.override(zone):
            return get_response(request)

    return middleware
