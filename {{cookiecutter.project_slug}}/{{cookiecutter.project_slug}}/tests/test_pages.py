"""What all pages have in common, and the error pages."""

import pytest
from django.apps import apps
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse
from django.templatetags.static import static
from django.test import Client, RequestFactory
from django.urls import reverse
from django.views import defaults
from django.views.csrf import csrf_failure

from users.models import User

LOGIN = reverse("login")
CHANGE = reverse("password_change")


@pytest.fixture
def request_(rf: RequestFactory) -> HttpRequest:
    """An anonymous request."""
    request = rf.get("/")
    request.user = AnonymousUser()
    return request


def test_browsers_find_the_icon(client: Client) -> None:
    assert client.get("/favicon.ico").headers["Location"] == static("icon.svg")


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
        assert b"Back to the home page" in response.content


def test_pages_allow_nothing_inline_and_no_other_host(db: None, client: Client) -> None:
    policy = client.get(LOGIN).headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_pages_link_to_the_apps_pages_that_exist(
    client: Client, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = {"Nowhere": "no-such-app:index", "Login page": "login"}
    monkeypatch.setattr(apps.get_app_config("users"), "nav", links, raising=False)
    client.force_login(user)
    page = client.get(CHANGE).content.decode()
    assert f'<a href="{LOGIN}">Login page</a>' in page
    assert "Nowhere" not in page


def test_the_header_marks_the_current_page(admin_client: Client, user: User) -> None:
    page = admin_client.get(CHANGE).content.decode()
    assert page.count("aria-current") == 1
    assert f'<a href="{CHANGE}" aria-current="page">' in page
    link = f'<a href="{reverse("jobs:queues")}" aria-current='
    assert f'{link}"page">' in admin_client.get("/jobs/").content.decode()
    assert f'{link}"true">' in admin_client.get("/jobs/list/").content.decode()
