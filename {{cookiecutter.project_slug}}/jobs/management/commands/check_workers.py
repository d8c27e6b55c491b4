"""For probes of a container without a web server."""

import socket
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from jobs import stats


class Command(BaseCommand):
    """End with status 1 unless a worker of this host is alive."""

    help = "End with status 1 unless a worker of this host is alive."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the command line."""
        parser.add_argument("--any", action="store_true", help="of any host")

    def handle(self, **options: Any) -> None:
        """Ask the database for a heartbeat of the last 20 seconds.

        Raises:
            CommandError: There is none.
        """
        host = None if options["any"] else socket.gethostname()
        workers = stats.workers_alive(host)
        if not workers:
            raise CommandError(f"No worker {host and f'of {host} '}is alive")
        self.stdout.write(f"Workers: {workers}")
