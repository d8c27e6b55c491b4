"""The development database: start it, stop it, open it, empty it."""

import os
import shutil
import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Generator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import UNUSABLE_PASSWORD_PREFIX, make_password
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError, connection
from django.db.migrations.executor import MigrationExecutor

from ...server import DevDBError, Server, program
from ...system import wait
from ...views import EMAIL, developer_lookup

MIGRATION_LOCK = 0x646576  # any number, as long as it is always the same


class Command(BaseCommand):
    """Manage the development database."""

    help = """Manage the development database.

  up      start it, apply migrations, create the superuser "dev"; safe to repeat
  stop    stop the server; the data stays
  status  show whether it runs, and where
  psql    open PostgreSQL's shell; arguments for it follow --
  reset   delete all data and start with an empty database

If DATABASE_URL is set, "up" migrates that database, and the others are rejected."""
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
        """Run one action, and report a failure in one sentence."""
        if args and action != "psql":
            raise CommandError(f"{action} takes no further arguments.")
        if action != "up" and not settings.DEVDB:
            raise CommandError(
                f"DATABASE_URL is set: {action} is for the embedded database only."
            )
        try:
            getattr(self, action)(*args, **options)
        except DevDBError as error:
            raise CommandError(str(error)) from error
        except EOFError as error:
            raise CommandError("Nobody can confirm this: use --no-input.") from error
        except KeyboardInterrupt:
            sys.exit(130)

    @cached_property
    def server(self) -> Server:
        """The embedded server."""
        return Server(settings.BASE_DIR)

    def up(self, *, verbosity: int, **options: Any) -> None:
        """Start the server, apply migrations, and create the first user or say how."""
        if settings.DEVDB:
            self.server.start()
        self.connect()
        if migrations_pending():
            with migration_lock():
                if migrations_pending():
                    call_command("migrate", interactive=False, verbosity=verbosity)
        users = get_user_model()._default_manager
        if settings.DEVDB:
            users.get_or_create(
                **developer_lookup(),
                defaults={
                    "email": EMAIL,
                    "password": make_password(None),
                    "is_staff": True,
                    "is_superuser": True,
                },
            )
        elif not (
            users.filter(is_active=True, is_staff=True)
            .exclude(password__startswith=UNUSABLE_PASSWORD_PREFIX)
            .exists()
        ):
            self.stderr.write(
                "No staff user can log in yet: run `uv run manage.py createsuperuser`."
            )

    def stop(self, **options: Any) -> None:
        """Stop the server."""
        stopped = self.server.stop()
        self.stdout.write("Stopped." if stopped else "It was not running.")

    def status(self, **options: Any) -> None:
        """Show whether the server runs, and where."""
        pid = self.server.pid()
        self.stdout.write(f"Running as process {pid}." if pid else "Not running.")
        self.stdout.write(f"Address: {self.server.url}")
        self.stdout.write(f"Data and log: {self.server.home}")

    def psql(self, *args: str, **options: Any) -> None:
        """Replace this process with psql."""
        self.server.start()
        path = f"{program('postgres').parent}{os.pathsep}{os.environ['PATH']}"
        psql = shutil.which("psql", path=path)
        if psql is None:
            raise CommandError("There is no psql: install PostgreSQL's client.")
        os.execv(psql, [psql, self.server.url, *args])

    def reset(self, *, interactive: bool, **options: Any) -> None:
        """Delete the data and start with an empty database."""
        question = "Delete all data of the development database? [y/N] "
        if interactive and input(question).strip().lower() not in ("y", "yes"):
            raise CommandError("Nothing was changed.")
        self.server.reset()
        self.up(**options)

    def connect(self) -> None:
        """Connect to the database, or fail at once and say why."""
        # A pool would wait half a minute for a server that is not there.
        connection.settings_dict["OPTIONS"].pop("pool", None)
        connection.settings_dict["OPTIONS"].setdefault("connect_timeout", 10)
        try:
            connection.ensure_connection()
        except OperationalError as error:
            reason = str(error).strip().splitlines()[0]
            remedy = "run `devdb reset`" if settings.DEVDB else "check DATABASE_URL"
            raise CommandError(f"No connection ({reason}): {remedy}.") from error


def migrations_pending() -> bool:
    """Tell if there are migrations to apply."""
    executor = MigrationExecutor(connection)
    return bool(executor.migration_plan(executor.loader.graph.leaf_nodes()))


@contextmanager
def migration_lock() -> Generator[None]:
    """Let one process migrate at a time; the lock ends with the connection."""
    with connection.cursor() as cursor:

        def acquired() -> bool:
            # Not pg_advisory_lock: CREATE INDEX CONCURRENTLY waits for running queries, and
            # so would wait for one that waits for this lock.
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [MIGRATION_LOCK])
            return bool(cursor.fetchone()[0])

        wait(acquired, float("inf"), "Waiting for another process to migrate…")
        try:
            yield
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [MIGRATION_LOCK])
