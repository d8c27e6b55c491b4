"""The worker's log lines: with the job's fields, and without its arguments."""

import logging
import re
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from procrastinate import JobContext
from procrastinate.jobs import Job
from procrastinate.middleware import AsyncCallNext
from procrastinate.worker import Worker

from . import upstream

_HERE = re.escape(str(Path(__file__).parent))
LIBRARY = rf"(<frozen|({_HERE}|.*[/\\](site-packages|python3[^/\\]*))[/\\])"
"""Matches the paths of the files of libraries, and of this package."""

_fields: ContextVar[dict[str, object]] = ContextVar("fields")


async def with_job(
    call_next: AsyncCallNext, context: JobContext, worker: Worker
) -> Any:
    """Add a job's id, task, queue and attempt to its log lines. A worker middleware."""
    set_job(context.job)
    return await call_next()


def set_job(job: Job) -> None:
    """Add a job's fields to the log lines that follow in this context."""
    _fields.set(_describe(vars(job)))


class JobFilter(logging.Filter):
    """Add the running job's fields, and remove arguments from Procrastinate's lines.

    At every level, arguments are in Procrastinate's messages and in its records'
    ``job`` and ``jobs``. The traceback of a job that was asked to stop is removed, too.
    That of one that failed begins in its own code: the stored failure has all of it.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record. A line about the start of a job passes only at DEBUG."""
        fields = vars(record)
        fields.update(_fields.get({}))
        if not record.name.startswith("procrastinate"):
            return True
        record.msg = upstream.without_arguments(record.getMessage())
        record.args = None
        fields.pop("jobs", None)
        if upstream.starts_job(fields):
            # The line about the job's end says the same and more.
            record.levelno, record.levelname = logging.DEBUG, "DEBUG"
            if not logging.getLogger(record.name).isEnabledFor(logging.DEBUG):
                return False
        if isinstance(job := fields.pop("job", None), dict):
            fields.update(_describe(job))
        if upstream.ends_in_abort(fields):
            record.exc_info = None
        elif record.exc_info and (error := record.exc_info[1]):
            frame = error.__traceback__
            while frame and re.match(LIBRARY, frame.tb_frame.f_code.co_filename):
                frame = frame.tb_next
            if frame:
                record.exc_info = type(error), error, frame
        return True


def _describe(job: dict[str, Any]) -> dict[str, object]:
    return {
        "job_id": job["id"],
        "task": job["task_name"],
        "queue": job["queue"],
        "attempt": job["attempts"] + 1,
    }
