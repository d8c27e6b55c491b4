"""The time zone of each request."""

from collections.abc import Callable
from contextlib import suppress
from zoneinfo import ZoneInfo

from django.http import HttpRequest, HttpResponse
from django.utils import timezone


def with_time_zone(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Use the browser's time zone, from the cookie that time-zone.js sets."""

    def middleware(request: HttpRequest) -> HttpResponse:
        zone = None  # TIME_ZONE, if there is no cookie or no such zone.
        with suppress(KeyError, OSError, ValueError):
            zone = ZoneInfo(request.COOKIES["timezone"])
        with timezone.override(zone):
            return get_response(request)

    return middleware
