"""The worker's side: the bodies of the generic jobs."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connection
from django.dispatch import Signal
from django.utils import timezone
from procrastinate import App, JobContext

from .. import runs
from . import FIND, GENERIC_JOBS, RESULT, as_json, base, change, find_result, signals

logger = logging.getLogger(__name__)

# Not synchronous: the commit of the job's end, which comes later, makes it durable.
START = f"""
WITH stored AS (
    INSERT INTO jobs_storedresult AS kept (job_id, worker_ids)
    VALUES (%(job_id)s, jsonb_build_array(%(worker)s::text))
    ON CONFLICT (job_id) DO UPDATE SET
        worker_ids = kept.worker_ids || excluded.worker_ids, return_value = NULL
    RETURNING *, set_config('synchronous_commit', 'off', true)
)
{RESULT.format(stored="stored")}
"""

# Not if the job was given to another worker meanwhile.
STORE_VALUE = f"""
UPDATE jobs_storedresult SET return_value = %(value)s::jsonb
WHERE job_id = (SELECT id FROM procrastinate_jobs WHERE {runs.THIS_RUN})
"""

_result: ContextVar[base.TaskResult[..., Any]] = ContextVar("result")


def add_to(app: App) -> None:
    """Register the bodies with the worker's app."""
    for declaration in GENERIC_JOBS.values():
        is_async = declaration.name == "django.async_task"
        body: Callable[..., Any] = run_async_task if is_async else run_task
        task = declaration.task(app, pass_context=True)(body)
        # Lanes start an atomic job's attempt: its own transaction may be rolled back.
        vars(task).update(
            start_attempt=start_attempt,
            announce_success=announce_success,
            announce_end=announce_end,
        )


def run_task(
    context: JobContext, *, task: str, arguments: Any, backend: str = "default"
) -> None:
    """Run a sync task."""
    result, first = begin(context)
    store_value(context, result.task.call(*first, *result.args, **result.kwargs))


async def run_async_task(
    context: JobContext, *, task: str, arguments: Any, backend: str = "default"
) -> None:
    """Run an async task."""
    result, first = await sync_to_async(begin)(context)
    value = await result.task.acall(*first, *result.args, **result.kwargs)
    await sync_to_async(store_value)(context, value)


def begin(context: JobContext) -> tuple[base.TaskResult[..., Any], list[Any]]:
    """Start an attempt, unless its lane has done so.

    Returns:
        Its result, and the task's context if the task takes it.

    Raises:
        ImportError, TypeError: There is no such task.
        RuntimeError: The job is atomic, but runs outside of a lane.
    """
    if not connection.in_atomic_block:
        if context.job.task_name == "django.atomic_task":
            raise RuntimeError("Procrastinate's own worker runs no atomic tasks.")
        start_attempt(context)
    result = _result.get()
    send(signals.task_started, result)
    return result, [base.TaskContext(task_result=result)] * result.task.takes_context


def start_attempt(context: JobContext) -> None:
    """Store which worker runs a job."""
    worker = str(context.job.worker_id)
    result = find_result(START, job_id=context.job.id, worker=worker)
    assert result
    _result.set(result)


def store_value(context: JobContext, value: Any) -> None:
    """Store what a task returned, unless it is None.

    Raises:
        TypeError: JSON cannot represent it.
    """
    if value is None:
        return
    try:
        value = as_json(value)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"JSON cannot represent what the task returned ({error});"
            " return an id or a string"
        ) from error
    job = context.job
    run = {"job_id": job.id, "attempts": job.attempts, "worker_id": job.worker_id}
    with connection.cursor() as cursor:
        cursor.execute(STORE_VALUE, {"value": json.dumps(value), **run})
    change(_result.get(), _return_value=value)


def announce_success() -> None:
    """Send the signal that the task in this context has finished."""
    status = base.TaskResultStatus.SUCCESSFUL
    change(_result.get(), status=status, finished_at=timezone.now())
    send(signals.task_finished, _result.get())


def send(signal: Signal, result: base.TaskResult[..., Any]) -> None:
    """Send a signal. What its receivers raise is logged."""
    signal.send_robust(type(result.task.get_backend()), task_result=result)


def announce_end(job_id: int) -> None:
    """Send the signal that a task has finished, if its job will not run again."""
    try:
        result = find_result(FIND, job_id=job_id)
        if result and result.is_finished:
            send(signals.task_finished, result)
    except Exception:  # the job has ended, whatever happens here
        logger.exception("Could not announce the end of job %s", job_id)
