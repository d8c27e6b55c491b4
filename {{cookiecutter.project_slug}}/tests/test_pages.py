"""What every page has, and the pages of Django's own views."""

from http import HTTPStatus

import pytest
from django.apps import apps
from django.contrib.auth.models import AnonymousUser
from django.core import mail
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.urls import reverse
from django.views import defaults
from django.views.csrf import csrf_failure
from pytest_django import Settings

from devdb.views import DEVELOPER, is_developer
from users.models import User

LOGIN = reverse("login")
CHANGE = reverse("password_change")


@pytest.fixture
def request_(rf: RequestFactory) -> HttpRequest:
    """A request of nobody in particular."""
    request = rf.get("/")
    request.user = AnonymousUser()
    return request


def test_error_pages_look_like_the_site(request_: HttpRequest) -> None:
    responses: list[HttpResponse] = [
        defaults.bad_request(request_, SuspiciousOperation()),
        defaults.permission_denied(request_, PermissionDenied()),
        defaults.page_not_found(request_, Http404()),
        defaults.server_error(request_),
        csrf_failure(request_),
    ]
    assert [one.status_code for one in responses] == [400, 403, 404, 500, 403]
    for response in responses:
        assert b"site.css" in response.content
        assert b"To the first page" in response.content


def test_pages_allow_nothing_inline_and_no_other_host(db: None, client: Client) -> None:
    policy = client.get(LOGIN).headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_pages_have_the_apps_links_that_lead_somewhere(
    client: Client, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = {"Nowhere": "no-such-app:index", "Way in": "login"}
    monkeypatch.setattr(apps.get_app_config("users"), "nav", links, raising=False)
    client.force_login(user)
    page = client.get(CHANGE).content.decode()
    assert f'<a href="{LOGIN}">Way in</a>' in page
    assert "Nowhere" not in page


def test_a_person_logs_in_and_out(client: Client, user: User) -> None:
    user.set_password("correct horse")
    user.save()
    form = {"username": "ann", "password": "wrong"}
    assert b"errorlist" in client.post(LOGIN, form).content
    form["password"] = "correct horse"
    assert client.post(LOGIN, form).headers["Location"] == "/"
    assert client.post(reverse("logout")).headers["Location"] == LOGIN
    assert client.get("/").status_code == HTTPStatus.FOUND


def test_a_person_changes_the_password(client: Client, user: User) -> None:
    user.set_password("correct horse")
    user.save()
    client.force_login(user)
    assert b"site.css" in client.get(CHANGE).content
    passwords = {"new_password1": "battery staple", "new_password2": "battery staple"}
    form = {"old_password": "correct horse", **passwords}
    response = client.post(CHANGE, form, follow=True)
    assert b"Password changed" in response.content
    user.refresh_from_db()
    assert user.check_password("battery staple")


def test_only_those_with_a_password_are_offered_to_change_it(
    client: Client, user: User
) -> None:
    client.force_login(user)
    page = client.get(CHANGE).content.decode()
    assert user.username in page
    assert f'href="{CHANGE}"' not in page
    user.set_password("correct horse")
    user.save()
    client.force_login(user)
    assert f'href="{CHANGE}"' in client.get(CHANGE).content.decode()


def test_a_person_who_forgot_the_password_gets_a_link_once(
    client: Client, user: User
) -> None:
    user.set_password("forgotten")
    user.save()
    url = reverse("password_reset")
    assert b"site.css" in client.get(url).content
    response = client.post(url, {"email": user.email}, follow=True)
    assert b"Look at your e-mail" in response.content
    [message] = mail.outbox
    [link] = [line for line in str(message.body).splitlines() if "/reset/" in line]
    page = client.get(link, follow=True)
    passwords = {"new_password1": "battery staple", "new_password2": "battery staple"}
    response = client.post(page.redirect_chain[-1][0], passwords, follow=True)
    assert b"Password changed" in response.content
    assert b"no longer valid" in client.get(link, follow=True).content


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
    assert is_developer(request) == shown


@pytest.mark.urls("devdb.urls")
def test_the_developers_button_does_nothing_where_it_is_not(
    client: Client, db: None
) -> None:
    User.objects.create_superuser(DEVELOPER)
    assert client.post("/developer/").status_code == HTTPStatus.NOT_FOUND
