"""Lines that are logged during a request have its id."""

import logging

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

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
