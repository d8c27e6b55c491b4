"""What happens to requests before and after the views."""

from http import HTTPStatus

import pytest
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.urls import reverse
from pytest_django import Settings

from users.models import User

from ..middleware import with_client_address

LOGIN = reverse("login")


def echo_address(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.META["REMOTE_ADDR"])


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [("", "127.0.0.1"), ("10.0.0.1", "10.0.0.1"), ("6.6.6.6, 10.0.0.1", "10.0.0.1")],
)
def test_behind_a_proxy_the_client_has_the_address_that_the_proxy_saw(
    rf: RequestFactory, settings: Settings, forwarded: str, address: str
) -> None:
    settings.TRUSTED_PROXY = True
    request = rf.get("/", headers={"X-Forwarded-For": forwarded})
    assert with_client_address(echo_address)(request).content.decode() == address


def test_without_a_proxy_a_client_cannot_choose_its_address(settings: Settings) -> None:
    settings.TRUSTED_PROXY = False
    with pytest.raises(MiddlewareNotUsed):
        with_client_address(echo_address)


@pytest.mark.parametrize(
    ("size", "logged_in", "status"),
    [
        (3 * 2**20, False, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
        (3 * 2**20, True, HTTPStatus.FORBIDDEN),  # it has no CSRF token
        (102 * 2**20, True, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    ],
)
def test_large_bodies_are_not_read(
    user: User, size: int, logged_in: bool, status: HTTPStatus
) -> None:
    client = Client(enforce_csrf_checks=True)
    if logged_in:
        client.force_login(user)
    response = client.post("/", CONTENT_LENGTH=str(size))
    assert response.status_code == status


@pytest.mark.parametrize("charset", ["utf-7", "latin-1", "zip"])
def test_other_charsets_than_utf_8_are_bad_requests(
    client: Client, charset: str
) -> None:
    for kind in (
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
    ):
        response = client.generic(
            "POST", LOGIN, b"a=+", content_type=f"{kind}; charset={charset}"
        )
        assert response.status_code == HTTPStatus.BAD_REQUEST


def test_pages_are_not_cached(client: Client, user: User) -> None:
    client.force_login(user)
    for path in ("/", reverse("password_change")):
        assert "no-store" in client.get(path).headers["Cache-Control"]
