"""The error page while something is away for a moment, and lines about it."""

import logging
import sys
from http import HTTPStatus

import pytest
from django.db import OperationalError
from django.test import Client, RequestFactory
from django.urls import reverse
from django.views import debug

from ..errors import server_error
from ..logs import OnceAMinute

AWAY = b"Not available at the moment"


def test_transient_errors_have_a_page_of_their_own(rf: RequestFactory) -> None:
    try:
        raise OperationalError("the database is away")
    except OperationalError:
        response = server_error(rf.get("/"))
        # With DEBUG, Django makes its own page.
        development = debug.technical_500_response(rf.get("/"), *sys.exc_info())
    assert response.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert response.headers["Retry-After"]
    assert AWAY in response.content
    assert AWAY in development.content
    assert b"Traceback" not in development.content


@pytest.mark.parametrize("query", ["email__exact=%00", "username=a%00"])
def test_a_url_that_the_database_cannot_take_is_a_bad_request(
    admin_client: Client, query: str
) -> None:
    admin_client.raise_request_exception = False
    users = reverse("admin:users_user_changelist")
    response = admin_client.get(f"{users}?{query}")
    assert response.status_code == HTTPStatus.BAD_REQUEST
    assert b"Bad request" in response.content


def test_bugs_have_another_page(rf: RequestFactory) -> None:
    try:
        raise KeyError("bug")
    except KeyError:
        response = server_error(rf.get("/"))
        development = debug.technical_500_response(rf.get("/"), *sys.exc_info())
    assert response.status_code == HTTPStatus.INTERNAL_SERVER_ERROR
    assert b"Something went wrong" in response.content
    assert b"KeyError" in development.content


def test_what_repeats_is_logged_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    caplog.handler.addFilter(once := OnceAMinute())
    logger = logging.getLogger("site")
    try:
        for clock[0] in (1, 2, 60, 61):
            logger.warning("The %s is away", "database")
        logger.warning("The %s is away", "mail server")
        for _ in range(2):
            logger.error("A bug", extra={"status_code": 500})
    finally:
        caplog.handler.removeFilter(once)
    assert [record.getMessage() for record in caplog.records] == [
        *["The database is away"] * 2,
        "The mail server is away",
        *["A bug"] * 2,
    ]
