"""Tells the probe of a container without a web server if its worker is alive."""

import socket
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from jobs import stats


class Command(BaseCommand):
    """Exit with status 1 unless a worker on this host is alive."""

    help = "Exit with status 1 unless a worker on this host is alive."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the command line."""
        parser.add_argument("--any", action="store_true", help="accept any host")

    def handle(self, **options: Any) -> None:
        """Look in the database for a heartbeat in the last 20 seconds.

        Raises:
            CommandError: There is none.
        """
        host = None if options["any"] else socket.gethostname()
        workers = stats.workers_alive(host)
        if not workers:
            raise CommandError(f"No worker is alive on {host or 'any host'}")
        self.stdout.write(f"Workers: {workers}")
