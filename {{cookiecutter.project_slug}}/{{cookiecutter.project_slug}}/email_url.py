"""EMAIL_URL: how e-mails are sent, in one variable."""

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

BACKENDS = {
    "smtp": "smtp",
    "smtps": "smtp",
    "submission": "smtp",
    "submit": "smtp",
    "console": "console",
    "file": "filebased",
    "memory": "locmem",
    "dummy": "dummy",
}

DEFAULT_PORTS = {"smtp": 25, "submission": 587, "submit": 587}

DEFAULT_TIMEOUT = 10
"""Seconds. Django sets none: a mail server that hangs would block a worker for ever."""

FLAGS = {
    **dict.fromkeys(("1", "y", "yes", "t", "true", "on"), True),
    **dict.fromkeys(("0", "n", "no", "f", "false", "off"), False),
}

SETTINGS = {
    "host": "EMAIL_HOST",
    "port": "EMAIL_PORT",
    "username": "EMAIL_HOST_USER",
    "password": "EMAIL_HOST_PASSWORD",
    "use_tls": "EMAIL_USE_TLS",
    "use_ssl": "EMAIL_USE_SSL",
    "timeout": "EMAIL_TIMEOUT",
    "file_path": "EMAIL_FILE_PATH",
}
"""The settings that Django before 6.1 has instead of the backends' options."""


def parse_email_url(url: str) -> dict[str, Any]:
    """Translate EMAIL_URL into an entry of Django's MAILERS.

    Args:
        url: One of these, with user and password percent-encoded:

            - ``submission://user:password@host:587`` or ``submit:``, with STARTTLS
            - ``smtp://user:password@host:25``; ``smtps:`` is ``smtp:`` with STARTTLS
            - ``?ssl=on``, ``?tls=on``, ``?timeout=5`` (seconds) after any of the above
            - ``file:///folder``, in the working directory; ``file:////var/folder``
            - ``console:``, ``memory:``, ``dummy:``

    Returns:
        The backend and its options.

    Raises:
        ValueError: The URL is wrong; the message completes "EMAIL_URL …" and does
            not contain the password.
    """
    scheme, colon, _ = url.lower().partition(":")
    if not colon or scheme not in BACKENDS:
        raise ValueError(f"must begin with one of {', '.join(BACKENDS)} and a colon")
    options: dict[str, Any] = {}
    if scheme == "file":
        options["file_path"] = urlsplit(url).path.removeprefix("/")
    elif BACKENDS[scheme] == "smtp":
        options = _parse_server(url, scheme)
    backend = f"django.core.mail.backends.{BACKENDS[scheme]}.EmailBackend"
    return {"BACKEND": backend, "OPTIONS": options}


def _parse_server(url: str, scheme: str) -> dict[str, Any]:
    """Return the options of the SMTP backend."""
    malformed = ValueError(
        "must look like submission://user:password@host:587, "
        "with special characters percent-encoded"
    )
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORTS.get(scheme)
    except ValueError:
        raise malformed from None  # it may quote part of the password
    host = parts.hostname or ("localhost" if scheme == "smtp" else "")
    if not host or parts.fragment:
        raise malformed
    given = {name: values[0] for name, values in parse_qs(parts.query).items()}
    if given.keys() - {"ssl", "tls", "timeout"}:
        raise ValueError("has options other than ssl, tls and timeout")
    timeout = given.get("timeout", "0")
    if not timeout.isdecimal():
        raise ValueError("has a timeout that is not a number of seconds")
    use_ssl = _parse_flag(given, "ssl")
    use_tls = _parse_flag(given, "tls") or scheme != "smtp"
    return {
        "host": host,
        "port": port,
        "username": parts.username and unquote(parts.username),
        "password": parts.password and unquote(parts.password),
        "use_tls": use_tls and not use_ssl,
        "use_ssl": use_ssl,
        "timeout": int(timeout) or DEFAULT_TIMEOUT,
    }


def _parse_flag(given: dict[str, str], name: str) -> bool:
    flag = FLAGS.get(given.get(name, "off").lower())
    if flag is None:
        raise ValueError(f"has an option {name} that is neither on nor off")
    return flag
