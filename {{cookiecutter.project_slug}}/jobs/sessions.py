"""What one job or request leaves in a database session must not reach the next.

The settings import this module: it needs nothing of Django's.
"""

import psycopg
from psycopg.pq import ExecStatus

RESET = (
    "RESET SESSION AUTHORIZATION; RESET ALL; SET TimeZone = 'UTC';"
    " UNLISTEN *; CLOSE ALL; DISCARD TEMP; SELECT pg_advisory_unlock_all();"
)
"""As DISCARD ALL, but one round trip that ends in the time zone of Django's sessions."""


def reset(connection: psycopg.Connection) -> None:
    """Make a session as good as new. For the pool in DATABASES, as its ``reset``.

    Raises:
        psycopg.Error: It cannot be reset; the pool then drops the connection.
    """
    result = connection.pgconn.exec_(RESET.encode())
    if result.status != ExecStatus.TUPLES_OK:
        raise psycopg.errors.error_from_result(result)
