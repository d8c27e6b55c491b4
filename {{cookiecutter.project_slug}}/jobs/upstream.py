"""All that leans on what Procrastinate does not promise, in one place.

That is names without documentation, SQL functions with a version in their names, and
the wording of log lines. ``tests/test_upstream.py`` names what a new version of
Procrastinate moved; mend it here.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from procrastinate import App, jobs
from procrastinate.contrib.django import app as django_app
from procrastinate.job_context import AbortReason, JobContext
from procrastinate.periodic import PeriodicTask
from procrastinate.retry import RetryDecision
from procrastinate.tasks import Task

if TYPE_CHECKING:
    from .models import QueuedJob

QueueRow = jobs.Job
"""A job as Procrastinate inserts it; its id is the database's."""

LEANED_ON = {
    "app.py": ["job_manager", "periodic_registry", "worker_defaults"],
    "contrib/django/models.py": ["procrastinate_job"],
    "contrib/django/admin.py": ["ProcrastinateJobAdmin", "pretty_args"],
    "contrib/django/procrastinate_app.py": ["will_configure_task"],
    "exceptions.py": ["JobAborted", "JobRetry", "retry_decision", "UniqueViolation"],
    "job_context.py": [
        "AbortReason",
        "USER_REQUEST",
        "abort_reason",
        "start_timestamp",
    ],
    "jobs.py": ["call_string", "log_context", "task_kwargs"],
    "manager.py": ["batch_defer_jobs", "cancel_job_by_id", "retry_job_by_id"],
    "periodic.py": ["PeriodicTask", "configure_kwargs", "croniter", "periodic_tasks"],
    "psycopg_connector.py": ["pool"],
    "sql/schema.sql": [
        "procrastinate_fetch_job_v2",
        "procrastinate_prune_stalled_workers_v1",
        "procrastinate_register_worker_v1",
        "abort_requested",
        "last_heartbeat",
        "procrastinate_events",
        "procrastinate_jobs",
        "procrastinate_workers",
        "queueing_lock",
        "scheduled_at",
    ],
    "tasks.py": ["get_retry_exception", "pass_context", "retry_strategy"],
    "worker.py": ["job_aborted"],
}
"""What this machinery uses, by the file of Procrastinate's package that defines it."""

FETCH_JOB = "SELECT * FROM procrastinate_fetch_job_v2(NULL, %s)"
REGISTER_WORKER = "SELECT procrastinate_register_worker_v1()"
PRUNE_WORKERS = "SELECT procrastinate_prune_stalled_workers_v1(%s)"

_ARGUMENTS_IN_LOG = re.compile(r"(\[\d+\])\(.*\)", re.DOTALL)


def defer(rows: list[QueueRow]) -> list[int]:
    """Insert jobs in one statement, on Django's connection, and return their ids."""
    inserted = django_app.job_manager.batch_defer_jobs(jobs=rows)
    return [row.id for row in inserted if row.id is not None]


def require_django() -> None:
    """Raise DjangoNotReady, which says what to do, if the apps are not loaded yet."""
    django_app.will_configure_task()


def cancel(job_id: int, *, running: bool) -> None:
    """Take a waiting job out of its queue; ask a running one to stop, if that is meant."""
    django_app.job_manager.cancel_job_by_id(job_id, abort=running)


def put_back(job_id: int, due: datetime) -> None:
    """Put a job that ended back into its queue. Its attempts grow by one.

    Raises:
        UniqueViolation: A job with the same queueing lock waits already.
    """
    django_app.job_manager.retry_job_by_id(job_id, due)


def retry_decision(
    task: Task[Any, Any, Any] | None, error: BaseException, job: QueuedJob
) -> RetryDecision | None:
    """Return when a task's retry strategy runs the job again after an error.

    Returns:
        None if the job fails, as does one whose task is unknown.
    """
    if task is None:
        return None
    retry = task.get_retry_exception(exception=error, job=job.procrastinate_job)
    return retry.retry_decision if retry else None


def periodic_tasks(app: App) -> dict[tuple[str, str], PeriodicTask[..., Any, ...]]:
    """Return the periodic tasks that are registered with a worker's app."""
    return app.periodic_registry.periodic_tasks


def asked_to_stop_by_user(context: JobContext) -> bool:
    """Tell if a person asked a running job to stop, and not the worker's shutdown."""
    return context.abort_reason() is AbortReason.USER_REQUEST


def without_arguments(message: str) -> str:
    """Return a log message of the worker without the arguments of its jobs."""
    return _ARGUMENTS_IN_LOG.sub(r"\1", message)


def ends_in_abort(record: dict[str, Any]) -> bool:
    """Tell if a log record says that a job was asked to stop, and did."""
    return str(record.get("action")).startswith("job_aborted")


def may_follow_later(migration: str) -> bool:
    """Tell if a migration of Procrastinate is for when no older code runs any more."""
    return "_post_" in migration
