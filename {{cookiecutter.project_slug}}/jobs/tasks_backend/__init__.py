"""Runs the tasks of `django.tasks`, which reusable apps enqueue, on this project's worker.

The setting TASKS names `ProcrastinateBackend`. A task becomes a job like any other: it
is inserted on Django's connection, in the open transaction. Three generic jobs run all
tasks: sync ones, sync ones that are atomic, and async ones.

An app that uses @task makes the backend before models are ready: this module must not
import any.
"""

# pyright: reportUnreachable=false, reportMissingModuleSource=false
# It reads the types of Django 6, whatever is installed.

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import django
from django.core.checks import CheckMessage
from django.db import connection
from django.utils import timezone
from django.utils.module_loading import import_string
from procrastinate.retry import BaseRetryStrategy, RetryDecision

from .. import bridge, procfile
from ..bridge import P, R
from ..retry import Retry
from ..upstream import QueueRow

if TYPE_CHECKING or django.VERSION >= (6, 0):
    from django.tasks import base, exceptions, signals
    from django.tasks.backends.base import BaseTaskBackend
    from django.tasks.exceptions import InvalidTask, InvalidTaskBackend
    from django.utils.json import normalize_json
else:  # the package django-tasks, for Django 5.2
    from django_tasks import base, exceptions, signals
    from django_tasks.backends.base import BaseTaskBackend
    from django_tasks.exceptions import InvalidTaskBackendError as InvalidTaskBackend
    from django_tasks.exceptions import InvalidTaskError as InvalidTask
    from django_tasks.utils import normalize_json

__all__ = ["InvalidTask", "ProcrastinateBackend", "base", "exceptions", "signals"]

RESULT = """
SELECT status, queue_name, priority, scheduled_at, args::json, worker_ids::json,
    return_value::json, failures, enqueued, started, last_started,
    CASE WHEN status NOT IN ('todo', 'doing') THEN finished END
FROM procrastinate_jobs job
LEFT JOIN {stored} stored ON stored.job_id = job.id
CROSS JOIN LATERAL (
    SELECT min(at) FILTER (WHERE type = 'deferred') AS enqueued,
        min(at) FILTER (WHERE type = 'started') AS started,
        max(at) FILTER (WHERE type = 'started') AS last_started,
        max(at) FILTER (WHERE type IN ('succeeded', 'failed', 'cancelled', 'aborted'))
            AS finished
    FROM procrastinate_events WHERE job_id = job.id
) event
CROSS JOIN LATERAL (
    SELECT json_agg(json_build_array(
            module, exception, coalesce(nullif(traceback, ''), message)
        ) ORDER BY id) AS failures
    FROM jobs_jobfailure WHERE job_id = job.id
) failure
WHERE job.id = %(job_id)s AND task_name = ANY(%(names)s)
"""
FIND = RESULT.format(stored="jobs_storedresult")
TIMES = ("enqueued_at", "started_at", "last_attempted_at", "finished_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTask(base.Task):  # type: ignore[type-arg]
    """A task with this backend's own options, which are those of `jobs.bridge.job`."""

    retry: BaseRetryStrategy | None = Retry()  # noqa: RUF009, it has no state
    lock: str | None = None
    queueing_lock: str | None = None
    atomic: bool = False
    timeout: timedelta | None = None


_DEFAULTS = {field.name: field.default for field in dataclasses.fields(JobTask)}


def option(task: base.Task[..., Any], name: str) -> Any:
    """Return one of a task's own options; a task made for another backend has none."""
    return getattr(task, name, _DEFAULTS[name])


def option_of(job: QueueRow, name: str) -> Any:
    """Return an option of the task that a job runs, or its default."""
    try:
        return option(find_task(str(job.task_kwargs["task"])), name)
    except Exception:  # noqa: BLE001, the job itself raises it too, and fails
        return _DEFAULTS[name]


@dataclass(frozen=True)
class TaskRetry(BaseRetryStrategy):
    """Retries a job as its task's own option says."""

    def get_retry_decision(
        self, *, exception: BaseException, job: QueueRow
    ) -> RetryDecision | None:
        """Return when to run the job again, or None to let it fail."""
        retry: BaseRetryStrategy | None = option_of(job, "retry")
        return retry.get_retry_decision(exception=exception, job=job) if retry else None


def _time_limit(job: QueueRow) -> Any:
    return option_of(job, "timeout")


@bridge.job(name="django.task", retry=TaskRetry(), timeout=_time_limit)
def run_task(*, task: str, arguments: Any, backend: str = "default") -> None:
    """Run the sync task at a path."""


@bridge.job(name="django.async_task", retry=TaskRetry(), timeout=_time_limit)
def run_async_task(*, task: str, arguments: Any, backend: str = "default") -> None:
    """Run the async task at a path."""


run_atomic_task = dataclasses.replace(run_task, name="django.atomic_task", atomic=True)
GENERIC_JOBS = {job.name: job for job in (run_task, run_async_task, run_atomic_task)}
bridge.declared.update(GENERIC_JOBS)


class ProcrastinateBackend(BaseTaskBackend):
    """Puts tasks into this project's queue."""

    task_class = JobTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def validate_task(self, task: base.Task[..., Any]) -> None:
        """Raise InvalidTask if the worker could not run a task."""
        super().validate_task(task)
        if option(task, "atomic") and inspect.iscoroutinefunction(task.func):
            raise InvalidTask(f"{task.name} is atomic: it must not be async.")
        job = _job(task, func=task.func, retry_strategy=option(task, "retry"))
        for _, fault in bridge.faults(job):
            raise InvalidTask(f"{task.name}: {fault}.")

    def enqueue(
        self, task: base.Task[P, R], args: Any, kwargs: Any
    ) -> base.TaskResult[P, R]:
        """Insert a job in the open transaction.

        Returns:
            A result; its id is the job's.

        Raises:
            InvalidTask: See `validate_task`.
            TypeError: JSON cannot represent the arguments.
            AlreadyEnqueued: A job with the same queueing lock is already waiting.
        """
        self.validate_task(task)
        arguments = as_json({"args": args, "kwargs": kwargs})
        job = _fill_locks(_job(task), task, arguments)
        call = {"task": task.module_path, "arguments": arguments, "backend": self.alias}
        (job_id,) = job.batch_defer([bridge.Call(job.name, call)])
        result = make_result(task, job_id, call, enqueued_at=timezone.now())
        signals.task_enqueued.send(type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> base.TaskResult[..., Any]:
        """Return what is known of a job.

        Raises:
            TaskResultDoesNotExist: There is no such job, it runs no task, it was
                pruned, or its task no longer exists.
        """
        text = str(result_id)
        if text.isascii() and text.isdecimal() and len(text) < 19:
            with suppress(ImportError, TypeError):
                if result := find_result(FIND, job_id=int(text)):
                    return result
        raise exceptions.TaskResultDoesNotExist(result_id)

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        """Return which queues no worker serves."""
        return [*procfile.check_served(self.queues, "which is in TASKS", "settings")]


def _job(task: base.Task[..., Any], **options: Any) -> bridge.Job[...]:
    """Return the job that runs a task."""
    job = run_atomic_task if option(task, "atomic") else run_task
    return dataclasses.replace(
        run_async_task if inspect.iscoroutinefunction(task.func) else job,
        queue=task.queue_name,
        priority=task.priority,
        schedule_at=task.run_after,
        lock=option(task, "lock"),
        queueing_lock=option(task, "queueing_lock"),
        **options,
    )


def _fill_locks(
    job: bridge.Job[...], task: base.Task[..., Any], arguments: Any
) -> bridge.Job[...]:
    """Fill a job's locks with the arguments of its task."""
    if not (job.lock or job.queueing_lock):
        return job
    bound = bind(task, arguments)
    bound.apply_defaults()

    def fill(lock: str | None) -> str | None:
        # The bridge fills them once more: doubled braces are no fields.
        return lock and re.sub("([{}])", r"\1\1", lock.format(**bound.arguments))

    queueing_lock = fill(job.queueing_lock)
    return dataclasses.replace(job, lock=fill(job.lock), queueing_lock=queueing_lock)


def bind(
    task: base.Task[..., Any], arguments: Any, *, partial: bool = False
) -> inspect.BoundArguments:
    """Return arguments by their names, all that the task needs or only some of them.

    Raises:
        TypeError: The task does not take them.
    """
    context = [None] * task.takes_context
    signature = inspect.signature(task.func)
    bind = signature.bind_partial if partial else signature.bind
    return bind(*context, *arguments["args"], **arguments["kwargs"])


def find_task(path: str) -> base.Task[..., Any]:
    """Return a task by its path. Nothing but tasks is ever called.

    Raises:
        ImportError: There is nothing at this path.
        TypeError: It is not a task.
    """
    found = import_string(path)
    if not isinstance(found, base.Task):
        raise TypeError(f"{path} is not a task.")
    return found


def as_json(value: Any) -> Any:
    """Return a value as it comes back from JSON.

    Raises:
        TypeError, ValueError: JSON cannot represent it.
    """
    plain = json.loads(json.dumps(normalize_json(value)))
    if problem := bridge.json_problem(plain):
        raise TypeError(problem)
    return plain


def find_result(query: str, **parameters: Any) -> base.TaskResult[..., Any] | None:
    """Return the result that a query made from RESULT finds."""
    with connection.cursor() as cursor:
        cursor.execute(query, parameters | {"names": [*GENERIC_JOBS]})
        row = cursor.fetchone()
    if row is None:
        return None
    status, queue, priority, due, args, workers, value, failures, *times = row
    task = find_task(args["task"])
    # The job goes on even if TASKS has changed, so that it would be invalid now.
    with suppress(InvalidTask, InvalidTaskBackend):
        task = task.using(
            priority=priority, queue_name=queue, run_after=due, backend=args["backend"]
        )
    statuses = {"todo": "READY", "doing": "RUNNING", "succeeded": "SUCCESSFUL"}
    result = make_result(
        task,
        parameters["job_id"],
        args,
        status=base.TaskResultStatus[statuses.get(status, "FAILED")],
        **dict(zip(TIMES, times, strict=True)),
        errors=[
            base.TaskError(
                exception_class_path=f"{module or 'builtins'}.{name}", traceback=text
            )
            for module, name, text in failures or []
        ],
        worker_ids=workers or [],
    )
    if status == "succeeded":
        change(result, _return_value=value)
    return result


def make_result(
    task: base.Task[P, R], job_id: int, call: dict[str, Any], **known: Any
) -> base.TaskResult[P, R]:
    """Return the result of a job that is ready, except for what is known of it."""
    fields: dict[str, Any] = dict.fromkeys(TIMES)
    fields |= {"status": base.TaskResultStatus.READY, "errors": [], "worker_ids": []}
    fields |= call["arguments"] | known
    return base.TaskResult(task=task, id=str(job_id), backend=call["backend"], **fields)


def change(result: base.TaskResult[..., Any], **fields: Any) -> None:
    """Change a frozen result, as Django's own backends do."""
    for name, value in fields.items():
        object.__setattr__(result, name, value)
