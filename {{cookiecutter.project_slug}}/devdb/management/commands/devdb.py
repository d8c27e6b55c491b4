"""The development database: start it, stop it, look into it, begin afresh."""

import os
import shutil
import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError, connection
from django.db.migrations.executor import MigrationExecutor

from ...server import DevDBError, Server, program
from ...system import wait
from ...views import DEVELOPER

MIGRATION_LOCK = 0x646576  # any number, as long as it is always the same


class Command(BaseCommand):
    """Manage the development database."""

    help = """Manage the development database.

  up      start it, apply migrations, make the superuser "dev"; does nothing twice
  stop    stop the server; the data stays
  status  say whether it runs, and where
  psql    open PostgreSQL's shell; arguments for it follow --
  reset   throw all data away and begin afresh

With DATABASE_URL set, "up" migrates that database and the others refuse."""
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the command line."""
        parser.formatter_class = RawDescriptionHelpFormatter
        actions = ("up", "stop", "status", "psql", "reset")
        parser.add_argument("action", choices=actions, help="what to do, see above")
        parser.add_argument("args", nargs="*", help="arguments for psql, after --")
        parser.add_argument(
            "--no-input",
            action="store_false",
            dest="interactive",
            help="reset without asking",
        )

    def handle(self, *args: str, action: str, **options: Any) -> None:
        """Run one action; every failure is one sentence."""
        self.embedded: bool = settings.DEVDB
        if args and action != "psql":
            raise CommandError(f"{action} takes no further arguments.")
        if action != "up" and not self.embedded:
            raise CommandError(
                f"DATABASE_URL is set: {action} is for the embedded database only."
            )
        if self.embedded:
            self.server = Server(settings.BASE_DIR)
        try:
            getattr(self, action)(*args, **options)
        except DevDBError as error:
            raise CommandError(str(error)) from error
        except EOFError as error:
            raise CommandError("Nobody to ask: say --no-input.") from error
        except KeyboardInterrupt:
            sys.exit(130)

    def up(self, *, verbosity: int, **options: Any) -> None:
        """Start the server, apply migrations, make the developer's account."""
        if self.embedded:
            self.server.start()
        self.connect()
        if pending():
            with advisory_lock():
                if pending():
                    call_command("migrate", interactive=False, verbosity=verbosity)
        if self.embedded:
            users = get_user_model()._default_manager
            name = users.model.USERNAME_FIELD  # pyright: ignore[reportArgumentType]
            users.get_or_create(
                **{name: DEVELOPER},  # pyright: ignore[reportCallIssue]
                defaults={
                    "email": f"{DEVELOPER}@example.com",
                    "password": make_password(None),
                    "is_staff": True,
                    "is_superuser": True,
                },
            )

    def stop(self, **options: Any) -> None:
        """Stop the server."""
        stopped = self.server.stop()
        self.stdout.write("Stopped." if stopped else "It was not running.")

    def status(self, **options: Any) -> None:
        """Say whether the server runs, and where."""
        pid = self.server.pid()
        self.stdout.write(f"Running as process {pid}." if pid else "Not running.")
        self.stdout.write(f"Address: {self.server.url}")
        self.stdout.write(f"Data and log: {self.server.home}")

    def psql(self, *args: str, **options: Any) -> None:
        """Become psql."""
        self.server.start()
        path = f"{program('postgres').parent}{os.pathsep}{os.environ['PATH']}"
        psql = shutil.which("psql", path=path)
        if psql is None:
            raise CommandError("There is no psql: install PostgreSQL's client.")
        os.execv(psql, [psql, self.server.url, *args])

    def reset(self, *, interactive: bool, **options: Any) -> None:
        """Throw the data away and begin afresh."""
        question = "Throw all data of the development database away? [y/N] "
        if interactive and input(question).strip().lower() not in ("y", "yes"):
            raise CommandError("Nothing was changed.")
        self.server.reset()
        self.up(**options)

    def connect(self) -> None:
        """Connect to the database, or say at once why that fails."""
        # A pool would wait half a minute for a server that is not there.
        connection.settings_dict["OPTIONS"].pop("pool", None)
        connection.settings_dict["OPTIONS"].setdefault("connect_timeout", 10)
        try:
            connection.ensure_connection()
        except OperationalError as error:
            reason = str(error).strip().splitlines()[0]
            remedy = "run `devdb reset`" if self.embedded else "check DATABASE_URL"
            raise CommandError(f"No database ({reason}): {remedy}.") from error


def pending() -> bool:
    """Tell whether there are migrations to apply."""
    executor = MigrationExecutor(connection)
    return bool(executor.migration_plan(executor.loader.graph.leaf_nodes()))


@contextmanager
def advisory_lock() -> Iterator[None]:
    """Migrate one process at a time; the lock ends with the connection."""
    with connection.cursor() as cursor:

        def acquired() -> bool:
            # Not pg_advisory_lock: CREATE INDEX CONCURRENTLY waits for who waits in it.
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [MIGRATION_LOCK])
            return bool(cursor.fetchone()[0])

        wait(acquired, float("inf"), "Waiting for another process that migrates…")
        try:
            yield
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [MIGRATION_LOCK])
