"""What Procrastinate logs, made fit for logs that are kept."""

import logging
import re

_ARGUMENTS = re.compile(r"(\[\d+\])\(.*\)", re.DOTALL)


class JobFilter(logging.Filter):
    """Remove jobs' arguments, and the traceback of a job that was asked to stop.

    Arguments stand in Procrastinate's messages and in its records' ``job`` and
    ``jobs``, at every level.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Change Procrastinate's records, and let all pass."""
        if not record.name.startswith("procrastinate"):
            return True
        record.msg = _ARGUMENTS.sub(r"\1", record.getMessage())
        record.args = None
        fields = vars(record)
        for job in (fields.get("job"), *fields.get("jobs", ())):
            if isinstance(job, dict):
                job.pop("task_kwargs", None)
                job.pop("call_string", None)
        if str(fields.get("action")).startswith("job_aborted"):
            record.exc_info = None
        return True
