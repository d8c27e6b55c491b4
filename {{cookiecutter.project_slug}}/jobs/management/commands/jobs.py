"""What the pages of the jobs show and do, for those who have only a shell."""

import os
import socket
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.template.defaultfilters import pluralize
from django.utils.timezone import localtime

from jobs import search
from jobs.actions import ACTIONS, act, pause, resume
from jobs.life import life_of
from jobs.models import PausedQueue, QueuedJob

NAMES = {
    action.label.lower().replace(" ", "-"): name for name, action in ACTIONS.items()
}
FILTERS = ("state", "task", "queue", "ended", "text")


def add_filters(parser: CommandParser, *, limit: int) -> None:
    """Declare the options that choose jobs."""
    parser.add_argument("--state", default="", choices=search.STATES)
    parser.add_argument("--task", default="", help='its name, or "all"')
    parser.add_argument("--queue", default="")
    parser.add_argument(
        "--ended", default="", choices=search.PERIODS, help="how long ago, at most"
    )
    parser.add_argument("--text", default="", help="what to search for")
    text = f"at most so many jobs; by default, {limit}"
    parser.add_argument("--limit", type=int, default=limit, help=text)
    parser.add_argument("--before", type=int, help="only jobs with a lower id")


def clock(at: datetime) -> str:
    """Return a time in the project's time zone, as the pages show it."""
    return f"{localtime(at):%Y-%m-%d %H:%M:%S}"


class Command(BaseCommand):
    """List jobs, show one, act on some, or pause a queue."""

    help = "List jobs, show one, act on some, or pause a queue."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the command line."""
        commands = parser.add_subparsers(dest="command", required=True)
        text = "list the newest jobs"
        shape = (
            "List the newest jobs. A terminal gets headings, and a line of its own for"
            " what a job raised. A pipe gets one line for each job, and nothing else."
        )
        one = commands.add_parser("list", help=text, description=shape)
        add_filters(one, limit=50)
        show = commands.add_parser("show", help="show one job's life")
        show.add_argument("id", type=int)
        show.add_argument("--full", action="store_true", help="show all frames")
        for name in NAMES:
            one = commands.add_parser(name, help="these jobs, or all that match")
            one.add_argument("ids", type=int, nargs="*", metavar="id")
            add_filters(one, limit=10_000)

        text = "keep workers from taking jobs from a queue"
        one = commands.add_parser("pause", help=text)
        one.add_argument("queue")
        one.add_argument("--reason", required=True, help="why; the pages show it")
        text = "let workers take jobs from a paused queue again"
        commands.add_parser("resume", help=text).add_argument("queue")

    def handle(self, *, command: str, **options: Any) -> None:
        """Do what the command line says."""
        if command == "list":
            self.show_pauses(options["queue"])
            self.list_jobs(self.find(options))
        elif command == "show":
            self.show(options["id"], full=options["full"])
        elif command == "pause":
            self.pause(options["queue"], options["reason"])
        elif command == "resume":
            self.resume(options["queue"])
        else:
            self.act(NAMES[command], options)

    def find(self, options: dict[str, Any]) -> search.Found:
        """Return the jobs that match the options.

        Raises:
            CommandError: The search takes too long.
        """
        values = {key: options[key] for key in FILTERS}
        filters = search.Filters(**values, in_arguments=True, in_failures=True)
        found = search.find(filters, limit=options["limit"], before=options["before"])
        if found.too_slow:
            raise CommandError(
                "The search takes too long: add --state, --task or --queue"
            )
        return found

    def show_pauses(self, queue: str) -> None:
        """Print if a queue is paused, or which queues are if it is empty."""
        for paused in PausedQueue.objects.order_by("pk"):
            if queue in ("", paused.queue):
                self.stderr.write(f"{paused} ({clock(paused.since)})")

    def list_jobs(self, found: search.Found) -> None:
        """Print a line for each job; on a terminal, its error has a line of its own."""
        search.add_times(found.jobs)
        search.add_errors(found.jobs)
        width = max([5, *(len(job.queue_name) for job in found.jobs)])
        break_line = "  "
        if self.stdout.isatty():
            break_line = f"\n{'':>8}  "
            queue = f"{'QUEUE':<{width}}"
            self.stdout.write(
                f"{'ID':>8}  {'STATE':<9}  {'DEFERRED':<19}  {'TOOK':>9}  {queue}  TASK"
            )
        for job in found.jobs:
            deferred = clock(job.deferred) if job.deferred else ""
            start = getattr(job, "start_of_arguments", "")
            error = break_line + job.error.splitlines()[0] if job.error else ""
            self.stdout.write(
                f"{job.pk:>8}  {job.state:<9}  {deferred:<19}  {job.duration:>9}"
                f"  {job.queue_name:<{width}}  {job.name} {start}{error}"
            )
        if found.older is not None:
            self.stderr.write(f"Go on with --before={found.older}")

    def show(self, pk: int, *, full: bool) -> None:
        """Print a job and its life.

        Args:
            pk: The job's id.
            full: Whether to print the frames of libraries, too.

        Raises:
            CommandError: There is no such job.
        """
        job = QueuedJob.objects.filter(pk=pk).first()
        if job is None:
            raise CommandError(f"There is no job {pk}")
        title = f"{job.name}[{pk}]"
        self.stdout.write(f"{title}: {job.state}, in the queue {job.queue_name}")
        self.show_pauses(job.queue_name)
        self.stdout.write(f"Arguments: {job.args}")
        for entry in life_of(job, failures=True):
            text = entry.get("text")
            if failure := entry.get("failure"):
                frames = "".join(
                    f"  {count} frame{pluralize(count)} of libraries\n"
                    if library and not full
                    else part
                    for library, count, part in entry["frames"]
                )
                host = f" on {failure.host}" if failure.host else ""
                text = f"{failure}{host}: {failure.message}\n{frames.rstrip()}"
            self.stdout.write(f"{clock(entry['at'])}  {text}")

    def act(self, name: str, options: dict[str, Any]) -> None:
        """Act on jobs, and print how many were changed.

        Raises:
            CommandError: Neither ids nor filters are given, or no job was changed.
        """
        ids = options["ids"]
        more = False
        if not ids:
            if not any(options[key] for key in FILTERS):
                raise CommandError("Give the ids of jobs, or filters such as --state")
            found = self.find(options)
            ids, more = [job.pk for job in found.jobs], found.older is not None
        changed, collided = act(name, ids)
        count = len(ids)
        text = f"{ACTIONS[name].label}: {changed} of {count} job{pluralize(count)}"
        if collided:
            text += f"; {collided} not, as a job with the same queueing lock is waiting"
        if more:
            text += "; there may be more that match: do it again"
        if not changed:
            raise CommandError(text)
        self.stdout.write(text)

    def pause(self, queue: str, reason: str) -> None:
        """Pause a queue.

        Raises:
            CommandError: There is no reason, or the queue cannot be paused.
        """
        try:
            before = pause(queue, reason, who())
        except ValueError as error:
            raise CommandError(str(error)) from None
        if before:
            self.stdout.write(f"It was already paused, so nothing changed. {before}")
            return
        known = QueuedJob.objects.filter(queue_name=queue).exists()
        unknown = "" if known else ", although there is no job in it"
        self.stdout.write(f"Queue {queue} is paused{unknown}")

    def resume(self, queue: str) -> None:
        """Resume a queue.

        Raises:
            CommandError: It is not paused.
        """
        if not resume(queue, who()):
            raise CommandError(f"Queue {queue} is not paused")
        self.stdout.write(f"Queue {queue} is resumed")


def who() -> str:
    """Return who uses this shell, for people."""
    user = os.environ.get("SUDO_USER") or os.environ.get("USER") or "somebody"
    return f"{user} on {socket.gethostname()}"
