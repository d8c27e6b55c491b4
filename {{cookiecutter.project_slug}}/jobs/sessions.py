"""Resets database sessions, so that no job or request affects the next one.

The settings import this module, so it must not import Django.
"""

import psycopg
from psycopg.pq import ExecStatus

RESET = (
    "RESET SESSION AUTHORIZATION; RESET ALL; SET TimeZone = 'UTC';"
    " UNLISTEN *; CLOSE ALL; DISCARD TEMP; SELECT pg_advisory_unlock_all();"
)
"""Like DISCARD ALL, but in one round trip, and with the time zone that Django sets."""


def reset(connection: psycopg.Connection) -> None:
    """Reset a session. For the pool in DATABASES, as its ``reset``.

    Raises:
        psycopg.Error: It cannot be reset; the pool then drops the connection.
    """
    result = connection.pgconn.exec_(RESET.encode())
    if result.status != ExecStatus.TUPLES_OK:
        raise psycopg.errors.error_from_result(result)
