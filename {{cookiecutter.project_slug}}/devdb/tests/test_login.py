"""The developer's login, which must exist only in development."""

from http import HTTPStatus
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client, RequestFactory
from django.urls import reverse
from pytest_django import Settings

from ..views import developer_lookup, may_log_in_as_developer

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
def test_the_login_button_is_shown_only_in_local_development(
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
def test_the_developers_login_is_not_found_where_the_button_is_hidden(
    client: Client, db: None
) -> None:
    model: Any = get_user_model()
    model.objects.create_superuser(**developer_lookup())
    assert client.post("/accounts/login/developer/").status_code == HTTPStatus.NOT_FOUND
