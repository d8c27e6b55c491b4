"""For probes of a container without a web server."""

from django.core.management.base import BaseCommand, CommandError

from jobs import stats


class Command(BaseCommand):
    """End with status 1 if no worker is alive."""

    help = "End with status 1 if no worker is alive."

    def handle(self, **options: object) -> None:
        """Ask the database for a heartbeat of the last 20 seconds.

        Raises:
            CommandError: There is none.
        """
        workers = stats.now().workers
        if not workers:
            raise CommandError("No worker is alive")
        self.stdout.write(f"Workers: {workers}")
