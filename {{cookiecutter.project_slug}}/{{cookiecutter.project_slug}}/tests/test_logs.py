"""What the project logs, and what it does not."""

import logging

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.urls import reverse

from .. import access_log
from ..logs import OnceAMinute
from ..request_ids import RequestIDFilter, with_request_id


def test_what_is_logged_during_a_request_has_its_id(
    rf: RequestFactory, caplog: pytest.LogCaptureFixture
) -> None:
    def view(request: HttpRequest) -> HttpResponse:
        logging.getLogger("site").warning("In the view")
        return HttpResponse()

    caplog.handler.addFilter(adder := RequestIDFilter())
    try:
        with_request_id(view)(rf.get("/", headers={"X-Request-ID": "from the proxy"}))
        with_request_id(view)(rf.get("/"))
        logging.getLogger("site").warning("After it")
    finally:
        caplog.handler.removeFilter(adder)
    first, second, after = [vars(record).get("request_id") for record in caplog.records]
    assert first == "from the proxy"
    assert second
    assert len(second) == 32
    assert after is None


def test_requests_are_logged_without_secrets(
    db: None, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    login = reverse("login")
    caplog.set_level(logging.INFO, access_log.logger.name)
    client.get(f"{login}?secret=1", headers={"X-Request-ID": "7"})
    client.get(reverse("password_reset_confirm", args=["MQ", "secret-token"]))
    first, second = [
        vars(one) for one in caplog.records if one.name == access_log.logger.name
    ]
    assert first["path"] == login
    assert (first["method"], first["status"]) == ("GET", 200)
    assert first["client"] == "127.0.0.1"
    assert first["duration"] > 0
    assert "secret" not in f"{first} {second}"


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
