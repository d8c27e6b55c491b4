"""The developer's login, which must not exist anywhere but in development."""

from http import HTTPStatus
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client, RequestFactory
from django.urls import reverse
from pytest_django import Settings

from ..views import developer, may_log_in_as_developer

LOGIN = reverse("login")


@pytest.mark.parametrize(
    ("debug", "devdb", "client_address", "proxy", "shown"),
    [
        (True, True, "127.0.0.1", {}, True),
        (True, True, "::1", {}, True),
        (False, True, "127.0.0.1", {}, False),
        (True, False, "127.0.0.1", {}, False),
        (True, True, "192.0.2.1", {}, False),
        (True, True, "127.0.0.1", {"X-Forwarded-For": "192.0.2.1"}, False),
    ],
)
def test_the_developers_button_is_there_on_three_conditions(
    rf: RequestFactory,
    settings: Settings,
    debug: bool,
    devdb: bool,
    client_address: str,
    proxy: dict[str, str],
    shown: bool,
) -> None:
    settings.DEBUG, settings.DEVDB = debug, devdb
    request = rf.get(LOGIN, REMOTE_ADDR=client_address, headers=proxy)
    assert may_log_in_as_developer(request) == shown


@pytest.mark.urls("devdb.urls")
def test_the_developers_button_does_nothing_where_it_is_not(
    client: Client, db: None
) -> None:
    model: Any = get_user_model()
    model.objects.create_superuser(**developer())
    assert client.post("/accounts/login/developer/").status_code == HTTPStatus.NOT_FOUND
