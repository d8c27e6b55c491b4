"""Logging in and out, and changing a password: Django's views in the site's look."""

from http import HTTPStatus
from smtplib import SMTPDataError, SMTPRecipientsRefused, SMTPResponseException
from traceback import format_exception
from typing import Any

import pytest
from django.conf import settings
from django.core import mail
from django.shortcuts import resolve_url
from django.test import Client
from django.urls import reverse

from jobs.retry import TRANSIENT
from jobs.testing import assert_deferred, drain_queue, perform_job

from .. import tasks
from ..models import User

LOGIN = reverse("login")
CHANGE = reverse("password_change")
RESET = reverse("password_reset")
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


@pytest.mark.django_db(transaction=True)
def test_a_password_is_reset_by_a_link_that_works_once(
    client: Client, user: User
) -> None:
    user.set_password("forgotten")
    user.save()
    assert b"site.css" in client.get(RESET).content
    response = client.post(RESET, {"email": user.email}, follow=True)
    assert b"Check your e-mail" in response.content
    assert not mail.outbox
    drain_queue()
    [message] = mail.outbox
    [link] = [line for line in str(message.body).splitlines() if "/reset/" in line]
    assert link.startswith("http://testserver/")
    page = client.get(link, follow=True)
    passwords = {"new_password1": "battery staple", "new_password2": "battery staple"}
    response = client.post(page.redirect_chain[-1][0], passwords, follow=True)
    assert b"Password changed" in response.content
    assert b"no longer valid" in client.get(link, follow=True).content


def test_an_unknown_address_takes_as_many_steps_as_a_known_one(
    client: Client, user: User, django_assert_num_queries: Any
) -> None:
    user.set_password("forgotten")
    user.save()
    for email, ids in ((user.email, [user.pk]), ("nobody@example.com", [])):
        # A query for users, and one that defers.
        with django_assert_num_queries(2):
            client.post(RESET, {"email": email})
        job = assert_deferred(tasks.send_password_links, user_ids=ids)
        assert "example.com" not in str(job.args)
    perform_job(tasks.send_password_links, user_ids=[], host="a.org", secure=True)
    assert not mail.outbox


@pytest.mark.parametrize(
    "error",
    [
        SMTPRecipientsRefused({"ann@example.com": (450, b"ann@example.com is full")}),
        SMTPDataError(451, "ann@example.com is full"),
    ],
)
def test_what_the_mail_server_says_about_an_address_is_not_logged(
    user: User, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr("users.services.send_mail", fail)
    with pytest.raises(SMTPResponseException) as caught:
        perform_job(
            tasks.send_password_links, user_ids=[user.pk], host="a.org", secure=True
        )
    assert "ann@" not in "".join(format_exception(caught.value))
    assert isinstance(caught.value, TRANSIENT)
