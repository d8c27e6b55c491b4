"""Django's migrate, of which only one runs at a time."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from django.core.management.commands import migrate
from django.db import connections

MIGRATION_LOCK = 0x6D6967  # any number, as long as it is always the same


class Command(migrate.Command):
    """Wait until no other `migrate` runs on the database, as on another host."""

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrate."""
        with migration_lock(options["database"]):
            super().handle(*args, **options)


@contextmanager
def migration_lock(alias: str) -> Generator[None]:
    """Hold a lock in the database, in a transaction on a connection of its own.

    A session's lock would be lost or left behind by a pooler in transaction mode.
    """
    connection = connections[alias].copy()
    try:
        connection.set_autocommit(False)
        with connection.cursor() as cursor:
            # It does not wait inside a query: CREATE INDEX CONCURRENTLY would wait for it.
            while True:
                cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [MIGRATION_LOCK])
                if cursor.fetchone() == (True,):
                    break
                connection.rollback()
                time.sleep(0.2)
        yield
    finally:
        connection.close()
