"""Stores the errors of failed attempts."""

import asyncio
import logging
import socket
import time
import traceback
from typing import Any

import psycopg
from django.db import Error
from procrastinate import App, JobContext
from procrastinate.exceptions import JobAborted
from procrastinate.jobs import Job
from procrastinate.middleware import AsyncCallNext
from procrastinate.worker import Worker

from . import retry, upstream

logger = logging.getLogger(__name__)

# It also returns the interruptions, which the retry strategy does not count.
INSERT_FAILURE = """
WITH kept AS (
    INSERT INTO jobs_jobfailure
        (job_id, attempt, module, exception, message, traceback, host, duration, at)
    VALUES (%(job_id)s, %(attempt)s, %(module)s, %(exception)s, %(message)s,
        %(traceback)s, %(host)s, %(duration)s, now())
)
SELECT give_backs, deaths FROM jobs_interruption WHERE job_id = %(job_id)s
"""


async def store_failures(
    call_next: AsyncCallNext, context: JobContext, worker: Worker
) -> Any:
    """Store every failed attempt as a `JobFailure`. A worker middleware.

    Raises:
        JobAborted: A user asked the job to stop. The worker would retry an async job if
            its cancellation were raised instead.
        JobTimedOut: The job ran for longer than its time limit.
        JobCancelledItself: Neither a user nor the worker cancelled the job. The worker
            would retry it for ever if the cancellation were raised instead.
    """
    failure: BaseException
    try:
        return await call_next()
    except (JobAborted, asyncio.CancelledError) as error:
        overdue: dict[int | None, BaseException] = getattr(worker, "overdue", {})
        if context.job.id in overdue:
            failure = overdue[context.job.id]
        elif upstream.asked_to_stop_by_user(context):
            raise JobAborted from None
        elif isinstance(error, JobAborted) or context.abort_reason():
            raise
        else:
            failure = retry.JobCancelledItself("The job cancelled itself.")
        failure.__cause__ = error
    except BaseException as error:  # noqa: BLE001, it is raised below
        failure = error
    await store_failure(context.app, context.job, failure, context.start_timestamp)
    raise failure


async def store_failure(
    app: App, job: Job, error: BaseException, started_at: float | None = None
) -> None:
    """Store an error, on the worker's own connection: Django's may have failed."""
    try:
        store = app.connector.execute_query_all_async(
            INSERT_FAILURE, **columns(job, error, started_at)
        )
        found = await asyncio.wait_for(store, timeout=10)
        retry.interruptions.set(sum(sum(one.values()) for one in found))
    # The job still ends with its own error.
    except (Exception, asyncio.CancelledError):
        logger.exception("Could not store the failure of job %s", job.id)


def columns(job: Job, error: BaseException, started_at: float | None) -> dict[str, Any]:
    """Return the columns of a `JobFailure`."""
    return {
        "job_id": job.id,
        "attempt": job.attempts + 1,
        "host": socket.gethostname(),
        "duration": None if started_at is None else time.time() - started_at,
        **describe(error),
    }


def describe(error: BaseException) -> dict[str, str]:
    """Describe an error, without the values of local variables and of rows.

    Returns:
        ``module`` and name (``exception``) of its class, ``message``, and
        ``traceback``, 16 kB at most.
    """
    message = text_of(error)
    text = "".join(traceback.format_exception(error))
    # Causes may form a circle.
    chain: dict[int, BaseException] = {}
    link: BaseException | None = error
    while link and id(link) not in chain:
        chain[id(link)] = link
        if isinstance(link, Error | psycopg.Error):
            # PostgreSQL's further lines (DETAIL, CONTEXT) quote the rows.
            whole = text_of(link)
            first_line = whole.partition("\n")[0]
            text = text.replace(whole, first_line)
            message = message.replace(whole, first_line)
        link = link.__cause__ or link.__context__
    return {
        "module": type(error).__module__[:200],
        "exception": type(error).__qualname__[:200],
        "message": storable(message[:1000]),
        "traceback": storable(text),
    }


def text_of(error: BaseException) -> str:
    """Return an error's text, or why it cannot be read."""
    try:
        return str(error)
    except Exception as problem:  # noqa: BLE001, an error's own code may raise anything
        return f"(its text cannot be read: {type(problem).__qualname__})"


def storable(text: str) -> str:
    """Return the last 16 kB of a text, as PostgreSQL can store it."""
    kept = text.replace("\0", "\ufffd").encode(errors="replace")[-16_000:]
    return kept.decode(errors="ignore")
