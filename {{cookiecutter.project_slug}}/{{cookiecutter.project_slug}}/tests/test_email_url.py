"""EMAIL_URL, and the e-mail backend that Django creates from it."""

from pathlib import Path
from typing import Any

import django
import pytest
from django.utils.module_loading import import_string
from pytest_django import Settings

from ..email_url import BACKENDS, SETTINGS, parse_email_url

DEFAULTS = {
    "host": "localhost",
    "port": 25,
    "username": None,
    "password": None,
    "use_tls": False,
    "use_ssl": False,
    "timeout": 10,
}
ENCRYPTED = {"host": "a.org", "port": 587, "use_tls": True}


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("smtp:", {}),
        ("smtp://a.org:2525", {"host": "a.org", "port": 2525}),
        ("smtp://[::1]", {"host": "::1"}),
        ("smtps://a.org", {"host": "a.org", "port": None, "use_tls": True}),
        ("submission://a.org", ENCRYPTED),
        ("submit://a.org", ENCRYPTED),
        ("SUBMISSION://A.org", ENCRYPTED),
        ("submission://a.org:2587?tls=off", {**ENCRYPTED, "port": 2587}),
        (
            "submission://a.org:465?ssl=on",
            {"host": "a.org", "port": 465, "use_ssl": True},
        ),
        ("smtp:?tls=True", {"use_tls": True}),
        ("smtp:?ssl=0&tls=1", {"use_tls": True}),
        ("smtp:?ssl=yes&tls=yes", {"use_ssl": True}),
        ("smtp:?timeout=5", {"timeout": 5}),
        ("smtp://ann@localhost", {"username": "ann"}),
        (
            "smtp://ann%40b.org:%23a%2Fb%3Ac%3F+%25%C3%A9@localhost",
            {"username": "ann@b.org", "password": "#a/b:c?+%é"},
        ),
    ],
)
def test_a_mail_servers_url_becomes_options(url: str, options: dict[str, Any]) -> None:
    mailer = parse_email_url(url)
    assert mailer["BACKEND"] == "django.core.mail.backends.smtp.EmailBackend"
    assert mailer["OPTIONS"] == DEFAULTS | options


@pytest.mark.parametrize(
    ("url", "folder"),
    [
        ("file:///mails", "mails"),
        ("file:////var/mails", "/var/mails"),
        ("file:mails", "mails"),
    ],
)
def test_a_folders_url_becomes_its_path(url: str, folder: str) -> None:
    assert parse_email_url(url)["OPTIONS"] == {"file_path": folder}


@pytest.mark.parametrize("scheme", ["console", "memory", "dummy"])
def test_other_backends_have_no_options(scheme: str) -> None:
    assert parse_email_url(f"{scheme}:") == parse_email_url(f"{scheme}://")
    assert parse_email_url(f"{scheme}:")["OPTIONS"] == {}


@pytest.mark.parametrize("scheme", BACKENDS)
def test_the_backend_works_with_what_the_url_says(
    settings: Settings, tmp_path: Path, scheme: str
) -> None:
    url = f"{scheme}:///{tmp_path}" if scheme == "file" else f"{scheme}://a.org:1"
    mailer = parse_email_url(url)
    options = mailer["OPTIONS"]
    if django.VERSION < (6, 1):
        for option, value in options.items():
            setattr(settings, SETTINGS[option], value)
        options = {}
    backend = import_string(mailer["BACKEND"])(alias="default", **options)
    for option, value in mailer["OPTIONS"].items():
        assert getattr(backend, option) == value


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("", "must begin with one of smtp, "),
        ("submission", "must begin with one of smtp, "),
        ("mailto:ann@b.org", "must begin with one of smtp, "),
        ("submission:", "must look like submission://"),
        ("smtps:///path", "must look like submission://"),
        ("smtp://a.org:mail", "must look like submission://"),
        ("smtp://a.org:99999", "must look like submission://"),
        ("smtp://[a.org", "must look like submission://"),
        ("smtp://ann:sec/ret@a.org", "must look like submission://"),
        ("smtp://ann:sec#ret@a.org", "must look like submission://"),
        ("smtp://ann:1#sec@a.org", "must look like submission://"),
        ("smtp://ann:1?sec=ret@a.org", "has options other than ssl, tls and timeout"),
        ("smtp:?tls=perhaps", "has an option tls that is neither on nor off"),
        ("smtp:?timeout=long", "has a timeout that is not a number of seconds"),
        ("smtp:?timeout=-1", "has a timeout that is not a number of seconds"),
    ],
)
def test_an_error_message_never_has_the_password(url: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        parse_email_url(url)
    assert "sec" not in str(caught.value).replace("seconds", "")
    assert caught.value.__suppress_context__ or not caught.value.__context__
