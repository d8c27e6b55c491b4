"""Keep what a failed job's traceback said."""

import asyncio
import logging
import socket
import time
import traceback
from typing import Any

import psycopg
from django.db import Error
from procrastinate import JobContext
from procrastinate.exceptions import JobAborted
from procrastinate.middleware import AsyncCallNext
from procrastinate.worker import Worker

from . import upstream

logger = logging.getLogger(__name__)

# On the worker's own connection: Django's may be what failed.
INSERT = """
INSERT INTO jobs_jobfailure
    (job_id, attempt, exception, message, traceback, host, duration, at)
VALUES (%(job_id)s, %(attempt)s, %(exception)s, %(message)s, %(traceback)s,
    %(host)s, %(duration)s, now())
"""


async def keep_failures(
    call_next: AsyncCallNext, context: JobContext, worker: Worker
) -> Any:
    """Store every failed attempt as a `JobFailure`. A worker middleware.

    Raises:
        JobAborted: A user asked the job to stop; the worker would otherwise take its
            cancellation for an error to retry.
    """
    try:
        return await call_next()
    except JobAborted:
        raise
    except asyncio.CancelledError:
        if upstream.asked_to_stop_by_user(context):
            raise JobAborted from None
        raise
    except BaseException as error:
        try:
            store = context.app.connector.execute_query_async(
                INSERT,
                job_id=context.job.id,
                attempt=context.job.attempts + 1,
                host=socket.gethostname(),
                duration=time.time() - context.start_timestamp,
                **describe(error),
            )
            await asyncio.wait_for(store, timeout=10)
        # The job's own error is its outcome, whatever happens to the record of it.
        except (Exception, asyncio.CancelledError):
            logger.exception("The failure of job %s is not kept", context.job.id)
        raise


def describe(error: BaseException) -> dict[str, str]:
    """Return what is kept of an error: no local variables, and no rows' values.

    Returns:
        ``exception``, ``message`` and ``traceback``, the last of them 16 kB at most.
    """
    text = "".join(traceback.format_exception(error))
    message = str(error)
    link: BaseException | None = error
    while link:
        if isinstance(link, Error | psycopg.Error):
            # PostgreSQL's further lines (DETAIL, CONTEXT) quote the rows.
            first_line = str(link).partition("\n")[0]
            text = text.replace(str(link), first_line)
            message = message.replace(str(link), first_line)
        link = link.__cause__ or link.__context__
    return {
        "exception": type(error).__qualname__[:200],
        "message": storable(message[:1000]),
        "traceback": storable(text),
    }


def storable(text: str, limit: int = 16_000) -> str:
    """Return the end of a text, as PostgreSQL can store it.

    Args:
        limit: In bytes.
    """
    kept = text.replace("\0", "�").encode(errors="replace")[-limit:]
    return kept.decode(errors="ignore")
