"""Which error page a request gets."""

import sys
from http import HTTPStatus

import pytest
from django.db import OperationalError
from django.test import Client, RequestFactory
from django.urls import reverse
from django.views import debug

from ..errors import server_error

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
