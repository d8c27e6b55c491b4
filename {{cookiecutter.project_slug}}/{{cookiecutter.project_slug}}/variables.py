"""Checks of the environment variables that the settings read."""

import re
from importlib.util import find_spec

import django.core.exceptions
from django.core.validators import URLValidator, validate_email
from environs import ValidationError

from .database_url import parse_database_url
from .email_url import parse_email_url

LABEL = r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?"
HOST = rf"({LABEL}\.)*{LABEL}\.?|\[[0-9a-f:.]+\]"
ALLOWED_HOST = re.compile(rf"\.?({HOST})", re.IGNORECASE)
ORIGIN = re.compile(rf"https?://(\*\.)?({HOST})(:\d+)?", re.IGNORECASE)


def check_secret_key(key: str) -> None:
    """Reject a key that can be guessed."""
    if len(key) < 50 or key.startswith("django-insecure-"):
        raise ValidationError("must be 50 random characters or more")


def check_secret_keys(keys: list[str]) -> None:
    """Reject a list that has a key that can be guessed."""
    for key in keys:
        check_secret_key(key)


def check_hosts(hosts: list[str]) -> None:
    """Reject an empty list, and entries that are not host names."""
    wrong = [host for host in hosts if not ALLOWED_HOST.fullmatch(host)]
    if wrong or not hosts:
        raise ValidationError(
            "must be the site's host names, such as www.example.com,example.com, "
            f"without scheme, port and path, and not {wrong}"
        )


def check_origins(origins: list[str]) -> None:
    """Reject entries that are not origins."""
    if wrong := [origin for origin in origins if not ORIGIN.fullmatch(origin)]:
        raise ValidationError(
            "must be origins, such as https://www.example.com, "
            f"without a slash at the end, and not {wrong}"
        )


def check_database_url(url: str) -> None:
    """Reject a URL that `parse_database_url` cannot read."""
    try:
        parse_database_url(url)
    except ValueError as error:
        raise ValidationError(str(error)) from error


def check_email_url(url: str) -> None:
    """Reject a URL that `parse_email_url` cannot read."""
    try:
        parse_email_url(url)
    except ValueError as error:
        raise ValidationError(str(error)) from error


def check_alerts_to(value: str) -> None:
    """Reject what is neither e-mail addresses nor the address of a webhook."""
    try:
        if "://" in value:
            URLValidator(schemes=["https", "http"])(value)
        elif value:
            for address in value.split(","):
                validate_email(address.strip())
    except django.core.exceptions.ValidationError:
        raise ValidationError(
            "must be e-mail addresses, comma-separated, or the URL of a webhook"
        ) from None


def check_sentry_dsn(dsn: str) -> None:
    """Reject the address of Sentry where its package is missing."""
    if dsn and not find_spec("sentry_sdk"):
        raise ValidationError("needs a package: `uv sync --extra sentry`")
