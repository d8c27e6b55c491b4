"""The queue in Django's admin, with a permission for each action."""

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
    """Stops counting at 10,000 rows: a full count would read the whole table."""

    @cached_property
    def count(self) -> int:
        """The number of rows, at most 10,000."""
        rows: Any = self.object_list
        return int(rows.order_by().values("pk")[:10_000].count())


def deny(*args: Any) -> bool:
    """Deny a permission to everybody."""
    return False


class ReadOnly(admin.options.BaseModelAdmin):  # type: ignore[type-arg]
    """An admin in which nobody may add, change or delete."""

    paginator: Any = CappedPaginator
    show_full_result_count = False
    extra = 0
    has_add_permission: Any = deny
    has_change_permission: Any = deny
    has_delete_permission: Any = deny


class FailureInline(ReadOnly, admin.StackedInline):  # type: ignore[type-arg]
    """A job's failed attempts, for those who may view them."""

    model = JobFailure
    fields = ["at", "host", "took", "message", "full_traceback"]
    readonly_fields = ["took", "full_traceback"]

    @admin.display(description="Took")
    def took(self, failure: JobFailure) -> str | None:
        """Return how long the attempt ran, if that is known."""
        return f"{failure.duration:.2f} seconds" if failure.duration else None

    @admin.display(description="Traceback")
    def full_traceback(self, failure: JobFailure) -> str:
        """Return the traceback as it was printed."""
        return format_html("<pre>{}</pre>", failure.traceback)


class EventInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]
    """What happened to a job, and when."""

    model = ProcrastinateEvent
    ordering = ["id"]


class TaskFilter(admin.SimpleListFilter):
    """Filters by declared job; their names are known without reading the table."""

    title = parameter_name = "task"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the names to choose from."""
        return [(name, name) for name in sorted(bridge.declared)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the jobs with the chosen name."""
        return queryset.filter(task_name=self.value()) if self.value() else queryset


def run_again(job: QueuedJob) -> None:
    """Put a failed job back into its queue."""
    # Procrastinate's retry would count the failed attempt twice, and keep the request
    # to stop.
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


# By permission: the action's description, the status that its jobs must have, and
# the function.
ACTIONS: dict[str, tuple[str, str, Callable[[QueuedJob], None]]] = {
    "retry_job": ("Run again (failed jobs)", "failed", run_again),
    "run_job_now": ("Run now (scheduled jobs)", "todo", run_now),
    "cancel_job": ("Cancel (waiting jobs)", "todo", cancel),
    "abort_job": ("Ask to stop (running jobs)", "doing", cancel),
}


def run_action(
    name: str, site: Any, request: HttpRequest, chosen: QuerySet[Any]
) -> None:
    """Apply an action to the chosen jobs that have its status, and log who did it."""
    description, status, change = ACTIONS[name]
    changed = 0
    # Read first: a job whose status changes may no longer match the list's filter.
    pks = list(chosen.values_list("pk", flat=True))
    for pk in pks:
        job = QueuedJob.objects.select_for_update().filter(pk=pk, status=status)
        try:
            with transaction.atomic():
                for locked in job:
                    change(locked)
                    site.log_change(request, locked, description)
                    changed += 1
        except UniqueViolation:
            problem = f"Job {pk}: another job with the same queueing lock is waiting."
            site.message_user(request, problem, messages.ERROR)
    site.message_user(request, f"{description}: {changed} of {len(pks)}")


@admin.register(QueuedJob)
class QueuedJobAdmin(ReadOnly, ProcrastinateJobAdmin):  # pyright: ignore[reportUnsafeMultipleInheritance]
    """Procrastinate's admin, with a permission and a log entry for each action."""

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
    # Facets would count all rows.
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    search_fields = ["=id"]
    inlines = [FailureInline, EventInline]

    def get_actions(
        self, request: HttpRequest, action_location: Any = None
    ) -> dict[str, Any]:
        """Return the actions that the user has the permission for."""
        return {
            name: (partial(run_action, name), name, ACTIONS[name][0])
            for name in ACTIONS
            if request.user.has_perm(f"jobs.{name}")  # pyright: ignore[reportAttributeAccessIssue]
        }

    def get_queryset(self, request: HttpRequest) -> QuerySet[QueuedJob]:
        """Return jobs with only the first characters of their arguments."""
        start = Left(Cast("args", TextField()), 80)
        queryset: QuerySet[QueuedJob] = super().get_queryset(request)
        return (
            queryset.prefetch_related(None).defer("args").annotate(start_of_args=start)
        )

    @admin.display(description="Arguments")
    def start_of_args(self, job: Any) -> str:
        """Return the first characters: there may be megabytes of arguments."""
        return str(job.start_of_args)

    @admin.display(description="Arguments")
    def pretty_args(self, instance: ProcrastinateJob) -> str:
        """Return more characters. Procrastinate's inline style would be blocked."""
        return json.dumps(instance.args)[:2000]


@admin.register(ProcrastinateWorker)
class WorkerAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """The registered workers, and how long ago each sent its last heartbeat."""

    list_display = ["id", "heartbeat"]

    def heartbeat(self, worker: Any) -> str:
        """Return the age of the last one."""
        return f"{(timezone.now() - worker.last_heartbeat) // SECOND} s ago"


@admin.register(ProcrastinatePeriodicDefer)
class PeriodicAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """The periodic tasks, and the latest job of each."""

    list_display = ["task_name", "last_run", "job"]
    list_select_related = ["job"]

    def last_run(self, periodic: Any) -> datetime:
        """Return when it was last due."""
        return datetime.fromtimestamp(periodic.defer_timestamp, UTC)
