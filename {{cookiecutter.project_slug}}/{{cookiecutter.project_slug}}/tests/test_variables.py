"""What the environment may not say."""

import sys

import pytest
from environs import ValidationError

from ..variables import (
    check_alerts_to,
    check_hosts,
    check_origins,
    check_secret_keys,
    check_sentry_dsn,
)


@pytest.mark.parametrize(
    "host",
    ["www.example.com", ".example.com", "localhost", "10.0.0.1", "[::1]", "Ex.COM."],
)
def test_hosts_are_names_or_addresses(host: str) -> None:
    check_hosts([host, "example.com"])


@pytest.mark.parametrize(
    "host",
    [
        "",
        "*",
        "*.example.com",
        "https://example.com",
        "example.com:443",
        "example.com/",
        "example.com www.example.com",
        " example.com",
        "::1",
    ],
)
def test_what_is_no_host_is_rejected_by_name(host: str) -> None:
    with pytest.raises(ValidationError, match="must be the site's host names") as error:
        check_hosts(["www.example.com", host])
    assert str(error.value).endswith(f"not {[host]}")


def test_a_site_has_a_host() -> None:
    with pytest.raises(ValidationError, match="must be the site's host names"):
        check_hosts([])


@pytest.mark.parametrize(
    "origin",
    ["https://example.com", "http://localhost:8000", "https://*.example.com"],
)
def test_origins_have_a_scheme(origin: str) -> None:
    check_origins([origin])


@pytest.mark.parametrize(
    "origin",
    ["", "example.com", "https://example.com/", "https://", "ftp://a.b", "https://a b"],
)
def test_what_is_no_origin_is_rejected_by_name(origin: str) -> None:
    with pytest.raises(ValidationError, match="must be origins") as error:
        check_origins(["https://www.example.com", origin])
    assert str(error.value).endswith(f"not {[origin]}")


def test_former_keys_are_as_long_as_keys_and_are_not_shown() -> None:
    check_secret_keys(["x" * 50])
    with pytest.raises(ValidationError, match="must be 50 random") as error:
        check_secret_keys(["x" * 50, "a former key"])
    assert "former" not in str(error.value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "ops@example.com",
        "ann@example.com, ben@example.com",
        "https://hooks.example.com/services/a/b",
        "http://localhost:8065/hooks/a",
    ],
)
def test_alerts_go_to_addresses_or_a_webhook(value: str) -> None:
    check_alerts_to(value)


@pytest.mark.parametrize("value", ["ops", "ann@example.com,", "ftp://example.com/a"])
def test_alerts_go_nowhere_else(value: str) -> None:
    with pytest.raises(ValidationError, match="or the URL of a webhook"):
        check_alerts_to(value)


def test_sentry_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)
    check_sentry_dsn("")
    with pytest.raises(ValidationError, match="uv sync --extra sentry"):
        check_sentry_dsn("https://key@example.com/1")
