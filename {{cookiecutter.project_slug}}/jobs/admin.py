"""The queue in Django's admin: what staff may see and do, action by action."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import QuerySet, TextField
from django.db.models.functions import Cast, Left
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import cached_property
from procrastinate.contrib.django import app
from procrastinate.contrib.django.admin import ProcrastinateJobAdmin
from procrastinate.contrib.django.models import (
    ProcrastinateEvent,
    ProcrastinateJob,
    ProcrastinatePeriodicDefer,
    ProcrastinateWorker,
)
from procrastinate.exceptions import UniqueViolation

from . import bridge
from .models import JobFailure, QueuedJob

admin.site.unregister(ProcrastinateJob)


class CappedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts no further than 10,000: a full count reads the whole table."""

    @cached_property
    def count(self) -> int:
        """The number of rows, at most 10,000."""
        rows: Any = self.object_list
        return int(rows.order_by()[:10_000].count())


class ReadOnly(admin.options.BaseModelAdmin):  # type: ignore[type-arg]
    """Nobody adds, changes or deletes here."""

    paginator: Any = CappedPaginator
    show_full_result_count = False
    extra = 0

    def has_add_permission(self, *args: Any) -> bool:
        return False

    def has_change_permission(self, *args: Any) -> bool:
        return False

    def has_delete_permission(self, *args: Any) -> bool:
        return False


class FailureInline(ReadOnly, admin.StackedInline):  # type: ignore[type-arg]
    """A job's failed attempts, for those who may view them."""

    model = JobFailure


class EventInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]
    """What happened to a job, and when."""

    model = ProcrastinateEvent
    ordering = ["id"]


class TaskFilter(admin.SimpleListFilter):
    """By the declared jobs, which are known without reading the table."""

    title = parameter_name = "task"

    def lookups(self, *args: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in sorted(bridge.declared)]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[QueuedJob]
    ) -> QuerySet[QueuedJob]:
        return queryset.filter(task_name=self.value()) if self.value() else queryset


@admin.register(QueuedJob)
class QueuedJobAdmin(ReadOnly, ProcrastinateJobAdmin):
    """Upstream's, with a permission and a log entry for each action."""

    list_display = ["id", "task_name", "start_of_args", "pretty_status", "summary"]
    list_filter = ["status", TaskFilter]
    list_per_page = 50
    search_fields = ["=id"]
    inlines = [FailureInline, EventInline]
    actions = ["retry", "run_now", "cancel", "abort"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[QueuedJob]:
        start = Left(Cast("args", TextField()), 80)
        queryset: QuerySet[QueuedJob] = super().get_queryset(request)
        return queryset.defer("args").annotate(start_of_args=start)

    @admin.display(description="Arguments")
    def start_of_args(self, job: Any) -> str:
        return str(job.start_of_args)

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("jobs.retry_job")

    def has_run_now_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("jobs.run_job_now")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("jobs.cancel_job")

    def has_abort_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("jobs.abort_job")

    @admin.action(description="Run again (failed jobs)", permissions=["retry"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        def retry(job: QueuedJob) -> None:
            # Upstream leaves it on jobs that failed while they were asked to stop.
            QueuedJob.objects.filter(pk=job.pk).update(abort_requested=False)
            app.job_manager.retry_job_by_id(job.pk, timezone.now())

        self.act(request, queryset, "failed", "to run again", retry)

    @admin.action(description="Run now (scheduled jobs)", permissions=["run_now"])
    def run_now(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        def run_now(job: QueuedJob) -> None:
            QueuedJob.objects.filter(pk=job.pk).update(scheduled_at=timezone.now())

        self.act(request, queryset, "todo", "to run now", run_now)

    @admin.action(description="Cancel (waiting jobs)", permissions=["cancel"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        def cancel(job: QueuedJob) -> None:
            app.job_manager.cancel_job_by_id(job.pk)

        self.act(request, queryset, "todo", "cancelled", cancel)

    @admin.action(description="Ask to stop (running jobs)", permissions=["abort"])
    def abort(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        def abort(job: QueuedJob) -> None:
            app.job_manager.cancel_job_by_id(job.pk, abort=True)

        self.act(request, queryset, "doing", "asked to stop", abort)

    def act(
        self,
        request: HttpRequest,
        chosen: QuerySet[Any],
        status: str,
        done: str,
        do: Callable[[QueuedJob], None],
    ) -> None:
        """Do something to those of the chosen jobs that have a status, and log it."""
        acted = 0
        for pk in chosen.values_list("pk", flat=True):
            try:
                with transaction.atomic():
                    locked = QueuedJob.objects.select_for_update()
                    if job := locked.filter(pk=pk, status=status).first():
                        do(job)
                        self.log_change(request, job, done)
                        acted += 1
            except UniqueViolation:
                problem = f"Job {job}: a job with the same queueing lock waits already."
                self.message_user(request, problem, messages.ERROR)
        self.message_user(request, f"{acted} of {len(chosen)} jobs {done}.")


@admin.register(ProcrastinateWorker)
class WorkerAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["id", "heartbeat"]

    @admin.display(ordering="last_heartbeat")
    def heartbeat(self, worker: ProcrastinateWorker) -> str:
        return f"{(timezone.now() - worker.last_heartbeat).total_seconds():.0f} seconds ago"


@admin.register(ProcrastinatePeriodicDefer)
class PeriodicAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["task_name", "last_run", "job"]
    list_select_related = ["job"]

    @admin.display(ordering="defer_timestamp")
    def last_run(self, periodic: ProcrastinatePeriodicDefer) -> datetime | None:
        if periodic.defer_timestamp is None:
            return None
        return datetime.fromtimestamp(periodic.defer_timestamp, UTC)
