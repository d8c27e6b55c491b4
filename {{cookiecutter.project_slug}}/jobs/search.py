"""Finds jobs, newest first. No query counts jobs, or reads all of them."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta

from django.db import OperationalError, connection, transaction
from django.db.models import (
    Case,
    Max,
    Min,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    TextField,
    When,
)
from django.db.models.fields.json import KT
from django.db.models.functions import Cast, Left, Now
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateEvent
from psycopg.errors import QueryCanceled

from .models import JobFailure, QueuedJob

STATES = {
    "waiting": Q(status="todo", scheduled_at=None)
    | Q(status="todo", scheduled_at__lte=Now()),
    "scheduled": Q(status="todo", scheduled_at__gt=Now()),
    "running": Q(status="doing"),
    "failed": Q(status="failed"),
    "succeeded": Q(status="succeeded"),
    "cancelled": Q(status="cancelled"),
    "stopped": Q(status="aborted"),
}
# Statuses for which an index finds the newest job.
INDEXED = {
    "failed": "failed",
    "running": "doing",
    "waiting": "todo",
    "scheduled": "todo",
}
# Generic jobs run the tasks of `django.tasks`, see `jobs.tasks_backend`.
PATH = Case(When(task_name__startswith="django.", then=KT("args__task")))
PERIODS = {"hour": timedelta(hours=1), "day": timedelta(days=1)}

# Few filters have an index, so each query reads a range of ids: the first one is small,
# as most searches find enough in it.
WINDOW = 10_000
LARGEST_WINDOW = 100_000
SECONDS = 2.0
ARGUMENTS_SHOWN = 200
ERROR_SHOWN = 200


@dataclass(frozen=True)
class Filters:
    """Which jobs to find. An empty filter matches all."""

    state: str = ""
    task: str = ""
    """A task's name, or "all"; by default, maintenance that succeeded is hidden."""
    queue: str = ""
    ended: str = ""
    """A key of PERIODS: something happened to the job within it."""
    text: str = ""
    """In the name of the job's task, or one of its locks."""
    in_arguments: bool = False
    """Whether to search the text in the arguments, too, and to load them."""
    in_failures: bool = False
    """Whether to search the text in what was raised, too."""


@dataclass
class Found:
    """Some jobs, and where to go on."""

    jobs: list[QueuedJob] = field(default_factory=list)
    older: int | None = None
    """The id before which to go on; None if there is nothing older."""
    too_slow: bool = False
    """Whether not even the first jobs could be searched in time."""


def find(filters: Filters, *, limit: int = 50, before: int | None = None) -> Found:
    """Find jobs, for two seconds at most.

    Args:
        before: Find only jobs with a lower id.
    """
    found = Found()
    if filters.text.isdecimal() and before is None:
        # No more digits, because PostgreSQL rejects what is too large for an id.
        found.jobs = list(_shown(QueuedJob.objects.filter(pk=filters.text[:18])))
        if found.jobs:
            return found
    end = time.monotonic() + SECONDS
    jobs = QueuedJob.objects.all()
    if status := INDEXED.get(filters.state):
        jobs = jobs.filter(status=status)
    start, window = before, WINDOW
    while True:
        older = jobs if before is None else jobs.filter(pk__lt=before)
        newest = older.aggregate(pk=Max("pk"))["pk"]
        if newest is None:
            return found
        matching = _shown(_matching(filters, newest - window, newest))
        left = max(end - time.monotonic(), 0.5)
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(f"SET LOCAL statement_timeout = {round(left * 1000)}")
                found.jobs += matching[: limit + 1 - len(found.jobs)]
                cursor.execute("SET LOCAL statement_timeout TO DEFAULT")
        except OperationalError as error:
            if not isinstance(error.__cause__, QueryCanceled):
                raise
            found.older, found.too_slow = before, before == start
            return found
        before = newest - window + 1
        window = min(2 * window, LARGEST_WINDOW)
        if len(found.jobs) > limit:
            found.jobs.pop()
            found.older = found.jobs[-1].pk
            return found
        if time.monotonic() > end:
            found.older = before
            return found


def _matching(filters: Filters, after: int, until: int) -> QuerySet[QueuedJob]:
    """Return the jobs in a window of ids that match."""
    jobs = QueuedJob.objects.filter(pk__gt=after, pk__lte=until).order_by("-pk")
    if filters.state:
        jobs = jobs.filter(STATES[filters.state])
    if filters.queue:
        jobs = jobs.filter(queue_name=filters.queue)
    if not filters.task:
        jobs = jobs.exclude(status="succeeded", task_name__startswith="maintenance.")
    elif filters.task != "all":
        jobs = jobs.filter(task_name=filters.task)
    if filters.ended:
        events = ProcrastinateEvent.objects.exclude(type="scheduled").order_by("-pk")
        last = events.filter(job=OuterRef("pk")).values("at")[:1]
        jobs = jobs.alias(last=Subquery(last))
        jobs = jobs.filter(last__gt=Now() - PERIODS[filters.ended])
    if text := filters.text.strip('"'):
        jobs = jobs.alias(path=PATH)
        wanted = Q(task_name__icontains=text) | Q(path__icontains=text)
        wanted |= Q(lock=text) | Q(queueing_lock=text)
        if filters.in_arguments:
            jobs = jobs.alias(all_arguments=Cast("args", TextField()))
            wanted |= Q(all_arguments__icontains=text)
        if filters.in_failures:
            failures = JobFailure.objects.filter(job__gt=after, job__lte=until)
            raised = Q(exception__icontains=text) | Q(message__icontains=text)
            wanted |= Q(pk__in=failures.filter(raised).values("job_id"))
        jobs = jobs.filter(wanted)
    return jobs


def without_arguments(jobs: QuerySet[QueuedJob]) -> QuerySet[QueuedJob]:
    """Do not load the arguments, of which there may be megabytes."""
    return jobs.defer("args").annotate(path=PATH)


def _shown(jobs: QuerySet[QueuedJob]) -> QuerySet[QueuedJob]:
    """Load only the first characters of the arguments."""
    start = Left(Cast("args", TextField()), ARGUMENTS_SHOWN)
    return without_arguments(jobs).annotate(start_of_arguments=start)


def add_times(jobs: Iterable[QueuedJob]) -> None:
    """Give jobs the times of their last attempt, in one query."""
    by_id = {job.pk: job for job in jobs}
    ends = ["succeeded", "failed", "cancelled", "aborted"]
    events = ProcrastinateEvent.objects.filter(job_id__in=by_id)
    times = events.values_list("job_id").annotate(
        deferred=Min("at", filter=Q(type="deferred")),
        started=Max("at", filter=Q(type="started")),
        ended=Max("at", filter=Q(type__in=ends)),
    )
    for job_id, deferred, started, ended in times.order_by():
        job = by_id[job_id]
        job.deferred = deferred
        job.started = started if job.status != "todo" else None
        job.ended = ended if job.status not in ("todo", "doing") else None
        # The events of an atomic job have one time, that of its first query.
        if job.started and job.status != "cancelled" and job.ended != job.started:
            job.duration = spell((job.ended or timezone.now()) - job.started)


def add_errors(jobs: Iterable[QueuedJob]) -> None:
    """Give failed jobs the start of what their last attempt raised, in one query."""
    failed = {job.pk: job for job in jobs if job.status == "failed"}
    raised = JobFailure.objects.filter(job__in=failed).order_by("job", "-pk")
    texts = raised.distinct("job").values_list(
        "job_id", "exception", Left("message", ERROR_SHOWN)
    )
    for job_id, exception, message in texts:
        failed[job_id].error = f"{exception}: {message}" if message else exception


def spell(duration: timedelta) -> str:
    """Return a duration for people: with hundredths only if it is short."""
    if duration < timedelta(minutes=1):
        return f"{duration.total_seconds():.2f} s"
    return str(timedelta(seconds=round(duration.total_seconds())))
