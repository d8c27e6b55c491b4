"""The queue in Django's admin: what staff may see and do, action by action."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import F, QuerySet, TextField
from django.db.models.functions import Cast, Left
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.html import format_html
from procrastinate.contrib.django.admin import ProcrastinateJobAdmin
from procrastinate.contrib.django.models import (
    ProcrastinateEvent,
    ProcrastinateJob,
    ProcrastinatePeriodicDefer,
    ProcrastinateWorker,
)
from procrastinate.exceptions import UniqueViolation

from . import bridge, upstream
from .models import JobFailure, QueuedJob

SECOND = timedelta(seconds=1)

admin.site.unregister(ProcrastinateJob)


class CappedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts no further than 10,000: a full count reads the whole table."""

    @cached_property
    def count(self) -> int:
        """The number of rows, at most 10,000."""
        rows: Any = self.object_list
        return int(rows.order_by().values("pk")[:10_000].count())


def never(*args: Any) -> bool:
    """Refuse a permission."""
    return False


class ReadOnly(admin.options.BaseModelAdmin):  # type: ignore[type-arg]
    """Nobody adds, changes or deletes here."""

    paginator: Any = CappedPaginator
    show_full_result_count = False
    extra = 0
    has_add_permission: Any = never
    has_change_permission: Any = never
    has_delete_permission: Any = never


class FailureInline(ReadOnly, admin.StackedInline):  # type: ignore[type-arg]
    """A job's failed attempts, for those who may view them."""

    model = JobFailure
    fields = ["at", "host", "took", "message", "raised"]
    readonly_fields = ["took", "raised"]

    @admin.display(description="Took")
    def took(self, failure: JobFailure) -> str | None:
        """Return how long the attempt ran, if that is known."""
        return f"{failure.duration:.2f} seconds" if failure.duration else None

    @admin.display(description="Traceback")
    def raised(self, failure: JobFailure) -> str:
        """Return the traceback as it was printed."""
        return format_html("<pre>{}</pre>", failure.traceback)


class EventInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]
    """What happened to a job, and when."""

    model = ProcrastinateEvent
    ordering = ["id"]


class TaskFilter(admin.SimpleListFilter):
    """By the declared jobs, which are known without reading the table."""

    title = parameter_name = "task"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the names to choose from."""
        return [(name, name) for name in sorted(bridge.declared)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the jobs with the chosen name."""
        return queryset.filter(task_name=self.value()) if self.value() else queryset


def run_again(job: QueuedJob) -> None:
    """Put a failed job back into its queue."""
    # Upstream counts the failed attempt once more, and leaves the request to stop on.
    QueuedJob.objects.filter(pk=job.pk).update(
        abort_requested=False, attempts=F("attempts") - 1
    )
    upstream.put_back(job.pk, timezone.now())


def run_now(job: QueuedJob) -> None:
    """Make a scheduled job due."""
    QueuedJob.objects.filter(pk=job.pk).update(scheduled_at=timezone.now())


def cancel(job: QueuedJob) -> None:
    """Take a waiting job out of its queue, or ask a running one to stop."""
    upstream.cancel(job.pk, running=job.status == "doing")


# By permission: what it is called, the only status that it is for, what it does.
ACTIONS: dict[str, tuple[str, str, Callable[[QueuedJob], None]]] = {
    "retry_job": ("Run again (failed jobs)", "failed", run_again),
    "run_job_now": ("Run now (scheduled jobs)", "todo", run_now),
    "cancel_job": ("Cancel (waiting jobs)", "todo", cancel),
    "abort_job": ("Ask to stop (running jobs)", "doing", cancel),
}


def act(name: str, site: Any, request: HttpRequest, chosen: QuerySet[Any]) -> None:
    """Do an action to those of the chosen jobs that it is for, and log who did it."""
    description, status, change = ACTIONS[name]
    acted = 0
    # Now: jobs leave the list's filter when their status changes.
    pks = list(chosen.values_list("pk", flat=True))
    for pk in pks:
        job = QueuedJob.objects.select_for_update().filter(pk=pk, status=status)
        try:
            with transaction.atomic():
                for locked in job:
                    change(locked)
                    site.log_change(request, locked, description)
                    acted += 1
        except UniqueViolation:
            problem = f"Job {pk}: another with the same queueing lock waits already."
            site.message_user(request, problem, messages.ERROR)
    site.message_user(request, f"{description}: {acted} of {len(pks)}")


@admin.register(QueuedJob)
class QueuedJobAdmin(ReadOnly, ProcrastinateJobAdmin):  # pyright: ignore[reportUnsafeMultipleInheritance]
    """Upstream's, with a permission and a log entry for each action."""

    list_display = [
        "id",
        "task_name",
        "start_of_args",
        "status",
        "queue_name",
        "attempts",
        "scheduled_at",
    ]
    fields = [
        "task_name",
        "pretty_args",
        "status",
        "queue_name",
        "lock",
        "queueing_lock",
        "priority",
        "scheduled_at",
        "attempts",
    ]
    list_filter = ["status", TaskFilter]
    # Facets are full counts.
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    search_fields = ["=id"]
    inlines = [FailureInline, EventInline]

    def get_actions(
        self, request: HttpRequest, action_location: Any = None
    ) -> dict[str, Any]:
        """Return the actions that the user has the permission for."""
        return {
            name: (partial(act, name), name, ACTIONS[name][0])
            for name in ACTIONS
            if request.user.has_perm(f"jobs.{name}")  # pyright: ignore[reportAttributeAccessIssue]
        }

    def get_queryset(self, request: HttpRequest) -> QuerySet[QueuedJob]:
        """Return jobs without their arguments, but for the first characters."""
        start = Left(Cast("args", TextField()), 80)
        queryset: QuerySet[QueuedJob] = super().get_queryset(request)
        return (
            queryset.prefetch_related(None).defer("args").annotate(start_of_args=start)
        )

    @admin.display(description="Arguments")
    def start_of_args(self, job: Any) -> str:
        """Return the first characters; there may be megabytes."""
        return str(job.start_of_args)

    @admin.display(description="Arguments")
    def pretty_args(self, instance: ProcrastinateJob) -> str:
        """Return more of them, without upstream's inline style, which is blocked."""
        return json.dumps(instance.args)[:2000]


@admin.register(ProcrastinateWorker)
class WorkerAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """The workers that are registered, and when each was last heard of."""

    list_display = ["id", "heartbeat"]

    def heartbeat(self, worker: Any) -> str:
        """Return its age."""
        return f"{(timezone.now() - worker.last_heartbeat) // SECOND} seconds ago"


@admin.register(ProcrastinatePeriodicDefer)
class PeriodicAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """The periodic tasks, and the latest job of each."""

    list_display = ["task_name", "last_run", "job"]
    list_select_related = ["job"]

    def last_run(self, periodic: Any) -> datetime:
        """Return when it was due last."""
        return datetime.fromtimestamp(periodic.defer_timestamp, UTC)
