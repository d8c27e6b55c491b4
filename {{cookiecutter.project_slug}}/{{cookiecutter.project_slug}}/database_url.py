"""DATABASE_URL: where the database is, in one variable. libpq reads it, as in psql."""

import re
from typing import Any
from urllib.parse import parse_qs

from psycopg import ProgrammingError, pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo, timeout_from_conninfo

DEFAULTS = {
    # After a fail-over, new connections lead to the server that accepts writes.
    "target_session_attrs": "read-write",
    # Seconds for each host to answer, and milliseconds for it to confirm what was sent.
    # By default, both can take minutes.
    "connect_timeout": "3",
    "tcp_user_timeout": "3000",
}
"""Options of libpq that the URL may override."""

# Of these characters, / and ? end the host, so in a password they would change it.
WELL_FORMED = re.compile(r"postgres(?:ql)?://(?:[^@/?#]*@)?[^@#]*")
MALFORMED = (
    "must look like postgresql://user:password@host:5432/name, "
    "with special characters percent-encoded (/ is %2F, # is %23)"
)


def parse_database_url(url: str) -> dict[str, Any]:
    """Translate DATABASE_URL into an entry of Django's DATABASES.

    Args:
        url: ``postgresql://user:password@host:5432/name``, with user and password
            percent-encoded. ``host1:5432,host2:5432`` are tried in this order. Options
            follow a ``?``, as in ``?sslmode=verify-full``:
            https://www.postgresql.org/docs/current/libpq-connect.html

    Raises:
        ValueError: The URL is wrong; the message completes "DATABASE_URL …" and does
            not contain the password.
    """
    if not WELL_FORMED.fullmatch(url):
        raise ValueError(MALFORMED)
    given = parse_qs(url.partition("?")[2], keep_blank_values=True).keys()
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    if unknown := given - known - {"ssl"}:
        raise ValueError(f"has an option that PostgreSQL does not have: {min(unknown)}")
    try:
        options = conninfo_to_dict(url)
    except ProgrammingError:
        raise ValueError(MALFORMED) from None  # it may quote part of the password
    if problem := _find_problem(options):
        raise ValueError(f"is not accepted by PostgreSQL's client: {problem}")
    keys = {"NAME": "dbname", "USER": "user", "PASSWORD": "password"}
    keys |= {"HOST": "host", "PORT": "port"}
    database = {name: str(options.pop(key, "")) for name, key in keys.items()}
    if not (database["NAME"] or "service" in options):
        raise ValueError("must end in the name of a database: /name")
    database["ENGINE"] = "django.db.backends.postgresql"
    return {**database, "OPTIONS": DEFAULTS | options}


def add_defaults(url: str) -> str:
    """Return libpq's connection string for a URL, with the defaults."""
    options: dict[str, Any] = DEFAULTS | conninfo_to_dict(url)
    return make_conninfo(**options)


def _find_problem(options: dict[str, Any]) -> str:
    """Return what is wrong with the options' values, or an empty text."""
    try:
        timeout_from_conninfo(options)
    except ProgrammingError as error:
        return str(error)
    # libpq checks the rest before it connects, and these sockets do not exist.
    nowhere = ",".join("/nowhere" for _ in str(options.get("host", "")).split(","))
    elsewhere = make_conninfo(**options | {"host": nowhere, "hostaddr": ""})
    message = pq.PGconn.connect_start(elsewhere.encode()).error_message.decode()
    return "" if "/nowhere" in message else message.strip()
