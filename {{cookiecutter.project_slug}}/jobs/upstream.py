"""Everything that relies on undocumented parts of Procrastinate, in one place.

These are undocumented names, SQL functions with a version in their names, and the
wording of log lines. ``tests/test_upstream.py`` lists the names that a new version of
Procrastinate lacks; adapt this module to it.
"""

from __future__ import annotations

import ast
import asyncio
import functools
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Unpack
from zoneinfo import ZoneInfo

from procrastinate import App, jobs, middleware, periodic, utils, worker
from procrastinate.app import WorkerOptions
from procrastinate.contrib.django import DjangoApp
from procrastinate.contrib.django import app as django_app
from procrastinate.job_context import AbortReason, JobContext, JobResult
from procrastinate.periodic import PeriodicTask
from procrastinate.retry import RetryDecision
from procrastinate.tasks import Task

if TYPE_CHECKING:
    from .models import QueuedJob

Slot: TypeAlias = "asyncio.Task[Any]"
"""The asyncio task that runs a job. A lane runs all its jobs in the same one."""

QueueRow = jobs.Job
"""A job as Procrastinate inserts it; the database gives it its id."""

PACKAGE = Path(worker.__file__).parent

USED_NAMES = {
    "app.py": "_worker job_manager periodic_registry worker_defaults",
    "contrib/django/db_cleanup.py": "close_db_connections",
    "contrib/django/models.py": "procrastinate_job",
    "contrib/django/procrastinate_app.py": "will_configure_task",
    "exceptions.py": "JobAborted JobRetry UniqueViolation retry_decision",
    "job_context.py": "AbortReason USER_REQUEST abort_reason start_timestamp",
    "jobs.py": "call_string from_row log_context task_kwargs",
    "manager.py": "batch_defer_jobs cancel_job_by_id fetch_job listen_for_jobs"
    " update_heartbeat",
    "middleware.py": "compose is_async_middleware",
    "periodic.py": "PeriodicTask configure_kwargs croniter periodic_tasks",
    "psycopg_connector.py": "pool",
    # `runs.py` copies the last two.
    "sql/queries.sql": "procrastinate_fetch_job_v2 procrastinate_finish_job_v1"
    " procrastinate_retry_job_v2",
    "sql/schema.sql": "abort_requested last_heartbeat procrastinate_events"
    " procrastinate_jobs procrastinate_register_worker_v1 procrastinate_workers"
    " queueing_lock scheduled_at",
    "tasks.py": "get_retry_exception pass_context retry_strategy",
    "utils.py": "cancel_and_capture_errors",
    "worker.py": "_abort_job _abort_running_jobs _job_ids_to_abort _loop"
    " _new_job_event _persist_job_status _process_job _running_jobs _shutdown"
    " _start_side_tasks _stop_event job_aborted listener logger poll_jobs_to_abort"
    " start_job",
}
"""The names that this package uses, by the file of Procrastinate that defines them."""

job_logger = worker.logger
"""Logs the start and the end of each job."""

FETCH_JOB = "procrastinate_fetch_job_v2"
"""The function of the database that takes a job."""

REGISTER_WORKER = "SELECT procrastinate_register_worker_v1()"

_ARGUMENTS_IN_LOG = re.compile(r"(\[\d+\])\(.*\)", re.DOTALL)


@functools.cache
def missing_names() -> list[str]:
    """Return which of USED_NAMES the installed version of Procrastinate lacks."""
    missing = []
    for file, names in USED_NAMES.items():
        text = (PACKAGE / file).read_text(encoding="utf-8")
        found = _defined(ast.parse(text)) if file.endswith(".py") else text.split()
        words = {word.partition("(")[0].rstrip(",;") for word in found}
        missing += [f"{name} in {file}" for name in names.split() if name not in words]
    return missing


def _defined(tree: ast.AST) -> Iterator[str]:
    """Yield the names that a module defines or assigns, and its strings."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.ClassDef(name=name) | ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.Attribute(attr=name, ctx=ast.Store()):
                yield name
            case ast.Constant(value=str(text)):
                yield text


def defer(rows: list[QueueRow]) -> list[int]:
    """Insert jobs in one statement, on Django's connection, and return their ids."""
    inserted = django_app.job_manager.batch_defer_jobs(jobs=rows)
    return [row.id for row in inserted if row.id is not None]


def require_django() -> None:
    """Raise DjangoNotReady, which says what to do, if the apps are not loaded yet."""
    django_app.will_configure_task()


def cancel(job_id: int, *, running: bool) -> None:
    """Cancel a waiting job.

    Args:
        running: Whether to ask the job to stop if it is already running.
    """
    django_app.job_manager.cancel_job_by_id(job_id, abort=running)


def retry_decision(
    task: Task[Any, Any, Any] | None, error: BaseException, job: QueuedJob | QueueRow
) -> RetryDecision | None:
    """Return when a task's retry strategy runs the job again after an error.

    Returns:
        None if the job fails, or if its task is unknown.
    """
    if task is None:
        return None
    row = job if isinstance(job, QueueRow) else job.procrastinate_job
    retry = task.get_retry_exception(exception=error, job=row)
    return retry.retry_decision if retry else None


def periodic_tasks(app: App) -> dict[tuple[str, str], PeriodicTask[..., Any, ...]]:
    """Return the periodic tasks that are registered with a worker's app."""
    return app.periodic_registry.periodic_tasks


def cron_line(task: PeriodicTask[..., Any, ...]) -> str:
    """Return a task's cron line, and its time zone in brackets unless that is UTC."""
    zone = getattr(task, "time_zone", "UTC")
    return task.cron if zone == "UTC" else f"{task.cron} ({zone})"


def next_run(cron_line: str) -> datetime | None:
    """Return when a task runs next.

    Args:
        cron_line: As `cron_line` returns it.

    Returns:
        None if this machine does not know the time zone.
    """
    cron, _, zone = cron_line.partition(" (")
    croniter: Any = vars(periodic)["croniter"].croniter
    try:
        start = datetime.now(ZoneInfo(zone.rstrip(")") or "UTC"))
        due: datetime = croniter(cron, start).get_next(datetime)
    except (KeyError, OSError, ValueError):
        return None
    return due


def asked_to_stop_by_user(context: JobContext) -> bool:
    """Tell if a person asked a running job to stop, and not the worker's shutdown."""
    return context.abort_reason() is AbortReason.USER_REQUEST


def without_arguments(message: str) -> str:
    """Return a log message of the worker without the arguments of its jobs."""
    return _ARGUMENTS_IN_LOG.sub(r"\1", message)


def ends_in_abort(record: dict[str, Any]) -> bool:
    """Tell if a log record says that a job was asked to stop, and did."""
    return str(record.get("action")).startswith("job_aborted")


def starts_job(record: dict[str, Any]) -> bool:
    """Tell if a log record says that a job starts."""
    return record.get("action") == "start_job"


def may_follow_later(migration: str) -> bool:
    """Tell if a migration of Procrastinate may wait until no old code runs any more."""
    return "_post_" in migration


class WorkerApp(DjangoApp):
    """An app that makes its worker with `make_worker`."""

    def make_worker(self, **options: Any) -> worker.Worker:
        """Return a worker."""
        return worker.Worker(app=self, **options)

    def periodic(  # pyright: ignore[reportIncompatibleMethodOverride], it adds an option
        self,
        *,
        cron: str,
        periodic_id: str = "",
        time_zone: str = "UTC",
        **options: Any,
    ) -> Callable[[Task[Any, Any, Any]], Task[Any, Any, Any]]:
        """Return the decorator that makes a task periodic.

        Args:
            cron: When to defer it; a sixth column is for seconds.
            periodic_id: Distinguishes several cron lines of one task.
            time_zone: The time zone of the cron line.
            options: As for ``configure`` of a task.
        """
        register = super().periodic(cron=cron, periodic_id=periodic_id, **options)

        def add(task: Task[Any, Any, Any]) -> Task[Any, Any, Any]:
            register(task)
            if time_zone != "UTC":
                added = periodic_tasks(self)[task.name, periodic_id]
                croniter: Any = type(added.croniter)
                # It computes all later times in this time zone.
                start = datetime.now(ZoneInfo(time_zone))
                vars(added).update(croniter=croniter(cron, start), time_zone=time_zone)
            return task

        return add

    def _worker(self, **kwargs: Unpack[WorkerOptions]) -> worker.Worker:
        return self.make_worker(**{**self.worker_defaults, **kwargs})


class Worker(worker.Worker):
    """Procrastinate's worker, with public names for what its subclasses use."""

    _supervisor: Slot | None = None

    def __init__(self, **options: Any) -> None:
        # Procrastinate would delete dead workers when this one starts, and wait for jobs
        # that a vanished host holds. upkeep.delete_dead_workers waits for half a second.
        options.setdefault("stalled_worker_timeout", 1e9)
        super().__init__(**options)
        self.served = list(self.queues) if self.queues else None
        """The queues that it was started for. ``queues`` lacks those that are paused."""

    @property
    def running(self) -> dict[Slot, JobContext]:
        """The running jobs."""
        return self._running_jobs

    @property
    def stopping(self) -> bool:
        """Whether the worker was asked to stop."""
        return self._stop_event.is_set()

    @property
    def cancelled(self) -> bool:
        """Whether asyncio has cancelled all tasks, because its loop was stopped."""
        return all(
            task and task.cancelling() for task in (self.run_task, self._supervisor)
        )

    def deletes(self, status: jobs.Status) -> bool:
        """Tell if jobs that end with a status are deleted."""
        condition = self.delete_jobs
        return condition is jobs.DeleteJobCondition.ALWAYS or (
            condition is jobs.DeleteJobCondition.SUCCESSFUL
            and status is jobs.Status.SUCCEEDED
        )

    async def send_heartbeat(self) -> None:
        """Tell the database that this worker is alive."""
        await self.app.job_manager.update_heartbeat(self.worker_id or 0)

    def look_for_jobs(self) -> None:
        """Fetch jobs now, before the next poll. Any thread may call this."""
        if self._loop:
            self._loop.call_soon_threadsafe(self._new_job_event.set)

    def ask_to_stop(self, slot: Slot, context: JobContext) -> None:
        """Ask a job to stop, as a person would."""
        # Meanwhile the lane may have gone on to the next job.
        if self._running_jobs.get(slot) is context:
            self._abort_job(slot, context, AbortReason.USER_REQUEST)

    def ask_all_to_stop(self) -> None:
        """Ask all jobs to stop, because the worker stops."""
        for slot, context in self._running_jobs.items():
            self._abort_job(slot, context, AbortReason.SHUTDOWN)

    def context(self, job: jobs.Job, start: float) -> JobContext:
        """Return the context of a job that was taken."""
        return JobContext(
            app=self.app,
            worker_name=self.worker_name,
            worker_queues=self.queues,
            additional_context=dict(self.additional_context or {}),
            job=job,
            abort_reason=lambda: self._job_ids_to_abort.get(job.id or 0),
            start_timestamp=start,
        )

    def sync_middleware(self, task: Task[..., Any, ...]) -> list[Callable[..., Any]]:
        """Return a sync task's middlewares, except the one that closes connections."""
        from procrastinate.contrib.django.db_cleanup import close_db_connections

        return [
            function
            for function in (*self.task_middleware, *task.task_middleware)
            if function is not close_db_connections
            and not middleware.is_async_middleware(function)
        ]

    def forget_request_to_stop(self, job: jobs.Job) -> None:
        """Forget that a job was asked to stop."""
        self._job_ids_to_abort.pop(job.id or 0, None)

    # What subclasses override.

    async def process(self, context: JobContext) -> None:
        """Run a job, and end it."""
        await super()._process_job(context)

    async def end_run(
        self, job: jobs.Job, status: jobs.Status, decision: RetryDecision | None
    ) -> bool:
        """Record how a job ended."""
        raise NotImplementedError

    async def send_heartbeats(self) -> None:
        """Show that the worker is alive, while it waits for its last jobs."""

    async def stop_remaining_jobs(self) -> None:
        """Stop the jobs that are still running after the graceful time."""
        await super()._abort_running_jobs()  # type: ignore[no-untyped-call]

    async def supervise(self) -> None:
        """Run beside the jobs until the worker ends. An exception stops the worker."""

    # What Procrastinate calls.

    async def _process_job(self, context: JobContext) -> None:
        await self.process(context)

    async def _persist_job_status(
        self,
        job: jobs.Job,
        status: jobs.Status,
        retry_decision: RetryDecision | None,
        context: JobContext,
        job_result: JobResult | None,
    ) -> None:
        await self.end_run(job, status, retry_decision)
        self.forget_request_to_stop(job)

    def _start_side_tasks(self) -> list[Slot]:
        self._supervisor = asyncio.create_task(self.supervise(), name="supervisor")
        # The listener listens to all queues, as those that are paused may be resumed.
        allowed, self.queues = self.queues, self.served
        side_tasks = super()._start_side_tasks()
        self.queues = allowed
        return [*side_tasks, self._supervisor]

    async def _shutdown(self, side_tasks: list[Slot]) -> None:
        alive = {"listener", "poll_jobs_to_abort", "supervisor"}
        kept = [task for task in side_tasks if task.get_name() in alive]
        others = [task for task in side_tasks if task not in kept]
        kept.append(asyncio.create_task(self.send_heartbeats(), name="heartbeats"))
        try:
            await super()._shutdown(others)
        finally:
            await utils.cancel_and_capture_errors(kept)

    async def _abort_running_jobs(self) -> None:
        await self.stop_remaining_jobs()
