"""What the pages of the jobs show and do, for those who have only a shell."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from jobs import search
from jobs.actions import ACTIONS, act
from jobs.life import life_of
from jobs.models import QueuedJob

NAMES = {
    action.label.lower().replace(" ", "-"): name for name, action in ACTIONS.items()
}


class Command(BaseCommand):
    """List jobs, show one, or act on some."""

    help = "List jobs, show one, or act on some."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the command line."""
        filters = CommandParser(add_help=False)
        filters.add_argument("--state", default="", choices=search.STATES)
        filters.add_argument("--task", default="", help="its name, or all")
        filters.add_argument("--queue", default="")
        filters.add_argument(
            "--ended", default="", choices=search.PERIODS, help="changed within it"
        )
        filters.add_argument("--text", default="", help="what to search for")
        filters.add_argument("--limit", type=int, default=50, help="by default, 50")
        filters.add_argument("--before", type=int, help="only jobs with a lower id")
        commands = parser.add_subparsers(dest="command", required=True)
        commands.add_parser("list", parents=[filters], help="list the newest jobs")
        show = commands.add_parser("show", help="show one job's life")
        show.add_argument("id", type=int)
        for name in NAMES:
            text = f"{name.replace('-', ' ')}: these jobs, or all that match"
            one = commands.add_parser(name, parents=[filters], help=text)
            one.add_argument("ids", type=int, nargs="*", metavar="id")
            one.set_defaults(limit=10_000)

    def handle(self, *, command: str, **options: Any) -> None:
        """Do what the command line says."""
        if command == "list":
            self.list_jobs(self.find(options))
        elif command == "show":
            self.show(options["id"])
        else:
            self.act(NAMES[command], options)

    def find(self, options: dict[str, Any]) -> search.Found:
        """Return the jobs that match the options.

        Raises:
            CommandError: The search takes too long.
        """
        keys = ("state", "task", "queue", "ended", "text")
        values = {key: options[key] for key in keys}
        filters = search.Filters(**values, in_arguments=True, in_failures=True)
        found = search.find(filters, limit=options["limit"], before=options["before"])
        if found.too_slow:
            raise CommandError(
                "The search takes too long: add --state, --task or --queue"
            )
        return found

    def list_jobs(self, found: search.Found) -> None:
        """Print a line for each job."""
        search.add_times(found.jobs)
        for job in found.jobs:
            deferred = f"{job.deferred:%Y-%m-%d %H:%M:%S}" if job.deferred else ""
            start = getattr(job, "start_of_arguments", "")
            self.stdout.write(
                f"{job.pk:>8}  {job.state:<9}  {deferred:<19}  {job.duration:>9}"
                f"  {job.queue_name}  {job.task_name} {start}"
            )
        if found.older is not None:
            self.stdout.write(f"Go on with --before={found.older}")

    def show(self, pk: int) -> None:
        """Print a job and its life.

        Raises:
            CommandError: There is no such job.
        """
        job = QueuedJob.objects.filter(pk=pk).first()
        if job is None:
            raise CommandError(f"There is no job {pk}")
        self.stdout.write(f"{job}: {job.state}, in the queue {job.queue_name}")
        self.stdout.write(f"Arguments: {job.args}")
        for entry in life_of(job, failures=True):
            text = entry.get("text")
            if failure := entry.get("failure"):
                text = f"{failure}: {failure.message}\n{failure.traceback.rstrip()}"
            self.stdout.write(f"{entry['at']:%Y-%m-%d %H:%M:%S}  {text}")

    def act(self, name: str, options: dict[str, Any]) -> None:
        """Act on jobs, and print how many were changed.

        Raises:
            CommandError: Neither ids nor filters are given, or no job was changed.
        """
        ids = options["ids"]
        if not ids:
            if not any(
                options[key] for key in ("state", "task", "queue", "ended", "text")
            ):
                raise CommandError("Give the ids of jobs, or filters such as --state")
            ids = [job.pk for job in self.find(options).jobs]
        changed, collided = act(name, ids)
        text = f"{ACTIONS[name].label}: {changed} of {len(ids)} jobs"
        if collided:
            text += f"; {collided} not, as a job with the same queueing lock is waiting"
        if not changed:
            raise CommandError(text)
        self.stdout.write(text)
