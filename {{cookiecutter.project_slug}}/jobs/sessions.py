"""Database sessions: reset after each job and request, and renewed after a fail-over.

The settings import this module, so it must not import Django.
"""

from typing import Any

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


def leave_read_only_server(connection: Any, **kwargs: Any) -> None:
    """Replace a session, and the pool's others, if its server no longer accepts writes.

    After a fail-over, the pool's sessions may still be open on the former server. A
    receiver of Django's ``connection_created``, which is sent for each session that the
    pool gives out.
    """
    session = connection.connection
    if not isinstance(session, psycopg.Connection):
        return
    info = session.info
    # A new session is always on a server that accepts writes, so this happens once.
    if info.get_parameters().get("target_session_attrs") == "read-write" and "on" in (
        # The server reports changes of these by itself.
        info.parameter_status("in_hot_standby"),
        info.parameter_status("default_transaction_read_only"),
    ):
        connection.pool.drain()
        connection.close()
        connection.connect()
