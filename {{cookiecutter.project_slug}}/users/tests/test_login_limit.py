"""Wrong passwords: who is stopped after how many, and who is not."""

from datetime import timedelta

import pytest
from django.db.models import F
from django.test import Client
from django.urls import reverse

from .. import login_limit
from ..models import FailedLogin, User

LOGIN = reverse("login")
BLOCKED = "Too many wrong passwords"


@pytest.fixture
def user(user: User) -> User:
    user.set_password("correct horse")
    user.save()
    return user


def log_in(
    password: str, *, name: str = "ann", address: str = "10.0.0.1", path: str = LOGIN
) -> str:
    """Log in; return an empty text, or the page that says why not."""
    form = {"username": name, "password": password}
    response = Client(REMOTE_ADDR=address).post(path, form, follow=True)
    return "" if response.redirect_chain else response.content.decode()


def test_ten_wrong_passwords_stop_only_their_address_and_user(user: User) -> None:
    for _ in range(10):
        assert BLOCKED not in log_in("wrong")
    assert BLOCKED in log_in("wrong")
    assert BLOCKED in log_in("correct horse", name="Ann")
    assert not log_in("correct horse", address="10.0.0.2")
    assert BLOCKED not in log_in("wrong", name="bob")


def test_the_admins_login_page_is_limited_too(user: User) -> None:
    """It redirects to the project's, so nothing else checks passwords."""
    response = Client().post(reverse("admin:login"), {"username": "a", "password": "b"})
    assert response.headers["Location"].startswith(LOGIN)


def test_an_address_may_not_try_one_password_for_each_user(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login_limit, "LIMIT_FOR_ALL", 3)
    for number in range(3):
        log_in("wrong", name=f"user{number}", address=f"2001:db8::{number}")
    assert BLOCKED in log_in("correct horse", address="2001:db8::ffff")
    assert not log_in("correct horse", address="2001:db8:0:1::1")


def pass_time(minutes: int) -> None:
    FailedLogin.objects.update(at=F("at") - timedelta(minutes=minutes))


def test_it_ends_after_fifteen_minutes_even_if_somebody_goes_on(user: User) -> None:
    for _ in range(10):
        log_in("wrong")
    pass_time(14)
    for _ in range(10):
        assert BLOCKED in log_in("wrong")
    pass_time(1)
    assert not log_in("correct horse")


def test_nothing_is_kept_for_long_and_nothing_about_people(user: User) -> None:
    log_in("wrong")
    pass_time(15)
    log_in("wrong")
    one_user, everybody = FailedLogin.objects.order_by("pk")
    assert len(one_user.key) == len(everybody.key) == 64
    log_in("correct horse")
    assert FailedLogin.objects.get() == everybody
