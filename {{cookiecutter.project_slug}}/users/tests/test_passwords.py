"""Logging in and out, and changing a password: Django's views in the site's look."""

from http import HTTPStatus

from django.conf import settings
from django.core import mail
from django.shortcuts import resolve_url
from django.test import Client
from django.urls import reverse

from ..models import User

LOGIN = reverse("login")
CHANGE = reverse("password_change")
HOME = resolve_url(settings.LOGIN_REDIRECT_URL)


def test_a_person_logs_in_and_out(client: Client, user: User) -> None:
    user.set_password("correct horse")
    user.save()
    form = {"username": "ann", "password": "wrong"}
    assert b"errorlist" in client.post(LOGIN, form).content
    form["password"] = "correct horse"
    assert client.post(LOGIN, form).headers["Location"] == HOME
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


def test_only_users_with_a_password_see_the_link_to_change_it(
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


def test_a_password_is_reset_by_a_link_that_works_once(
    client: Client, user: User
) -> None:
    user.set_password("forgotten")
    user.save()
    url = reverse("password_reset")
    assert b"site.css" in client.get(url).content
    response = client.post(url, {"email": user.email}, follow=True)
    assert b"Check your e-mail" in response.content
    [message] = mail.outbox
    [link] = [line for line in str(message.body).splitlines() if "/reset/" in line]
    page = client.get(link, follow=True)
    passwords = {"new_password1": "battery staple", "new_password2": "battery staple"}
    response = client.post(page.redirect_chain[-1][0], passwords, follow=True)
    assert b"Password changed" in response.content
    assert b"no longer valid" in client.get(link, follow=True).content
