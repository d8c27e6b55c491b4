"""Logging in to the admin, on the project's own login page."""

from http import HTTPStatus

import pytest
from django.conf import settings
from django.shortcuts import resolve_url
from django.test import Client
from django.urls import reverse

from ..models import User

LOGIN = reverse("login")
INDEX = reverse("admin:index")
HOME = resolve_url(settings.LOGIN_REDIRECT_URL)
PAGE = reverse("admin:users_user_changelist")


@pytest.mark.parametrize("path", [INDEX, f"{PAGE}?is_staff__exact=1"])
def test_staff_log_in_on_the_projects_page_and_come_back(
    client: Client, admin_user: User, path: str
) -> None:
    login_page = client.get(path, follow=True)
    assert login_page.request["PATH_INFO"] == LOGIN
    form = {"username": "admin", "password": "password", "next": path}
    assert f'name="next" value="{path}"' in login_page.content.decode()
    response = client.post(LOGIN, form)
    assert response.headers["Location"] == path
    assert client.get(path).status_code == HTTPStatus.OK


@pytest.mark.parametrize("path", [INDEX, PAGE, reverse("admin:login"), "/jobs/"])
def test_users_who_are_not_staff_get_an_explanation(
    client: Client, user: User, path: str
) -> None:
    client.force_login(user)
    page = client.get(path, follow=True)
    assert page.status_code == HTTPStatus.FORBIDDEN
    assert b"Your account does not have permission" in page.content


@pytest.mark.parametrize("query", ["", "?next=https://example.com/"])
def test_logged_in_staff_are_redirected_to_the_admin(
    admin_client: Client, query: str
) -> None:
    response = admin_client.get(reverse("admin:login") + query)
    assert response.headers["Location"] == INDEX


def test_nobody_is_redirected_to_another_site(client: Client, admin_user: User) -> None:
    url = reverse("admin:login") + "?next=https://example.com/"
    login_url = client.get(url).headers["Location"]
    form = {"username": "admin", "password": "password"}
    assert client.post(login_url, form).headers["Location"] == HOME
