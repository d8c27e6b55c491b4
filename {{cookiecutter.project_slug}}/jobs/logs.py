"""What is logged, made fit for logs that are kept."""

import logging
import re
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any
from uuid import uuid4

from django.http import HttpRequest, HttpResponse
from procrastinate import JobContext
from procrastinate.middleware import AsyncCallNext
from procrastinate.worker import Worker

_ARGUMENTS = re.compile(r"(\[\d+\])\(.*\)", re.DOTALL)
_fields: ContextVar[dict[str, object]] = ContextVar("fields")


def with_request_id(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Log a request's lines with its id, the proxy's if it gave one. A middleware."""

    def middleware(request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Request-ID", "")[:64]
        token = _fields.set({"request_id": given or uuid4().hex})
        try:
            return get_response(request)
        finally:
            _fields.reset(token)

    return middleware


async def with_job(
    call_next: AsyncCallNext, context: JobContext, worker: Worker
) -> Any:
    """Log a job's lines with what it is. A worker middleware."""
    _fields.set(_describe(context.job.log_context()))
    return await call_next()


class JobFilter(logging.Filter):
    """Add the fields of request or job; remove jobs' arguments from Procrastinate's lines.

    Arguments stand in Procrastinate's messages and in its records' ``job`` and
    ``jobs``, at every level. The traceback of a job that was asked to stop goes too.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record, and let it pass."""
        fields = vars(record)
        fields.update(_fields.get({}))
        if not record.name.startswith("procrastinate"):
            return True
        record.msg = _ARGUMENTS.sub(r"\1", record.getMessage())
        record.args = None
        fields.pop("jobs", None)
        if isinstance(job := fields.pop("job", None), dict):
            fields.update(_describe(job))
        if str(fields.get("action")).startswith("job_aborted"):
            record.exc_info = None
        return True


def _describe(job: dict[str, Any]) -> dict[str, object]:
    return {
        "job_id": job["id"],
        "task": job["task_name"],
        "queue": job["queue"],
        "attempt": job["attempts"] + 1,
    }
