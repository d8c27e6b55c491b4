"""What happens to a job whose body raised."""

import random
import smtplib
import socket
from asyncio import CancelledError
from dataclasses import dataclass

from django.db import InterfaceError, OperationalError
from procrastinate.exceptions import JobAborted
from procrastinate.jobs import Job
from procrastinate.retry import BaseRetryStrategy, RetryDecision


class JobStalled(Exception):
    """The job's worker died."""


TRANSIENT = (
    OperationalError,
    InterfaceError,
    ConnectionError,
    TimeoutError,
    socket.gaierror,
    smtplib.SMTPConnectError,
    smtplib.SMTPServerDisconnected,
)
"""Errors that may be gone at the next attempt. Deadlocks are OperationalErrors."""


@dataclass(frozen=True, kw_only=True)
class Retry(BaseRetryStrategy):
    """Try again after errors that pass; fail at once on those that stay.

    Args:
        max_attempts: How often the body runs at most. Jobs that a stopping worker
            cut short go back to the queue whatever their number.
        wait: Seconds before the second attempt; each later wait is twice as long.
        max_wait: The longest wait, in seconds.
        exceptions: What to try again after.
    """

    max_attempts: int = 5
    wait: float = 5
    max_wait: float = 600
    exceptions: tuple[type[BaseException], ...] = TRANSIENT

    def get_retry_decision(
        self, *, exception: BaseException, job: Job
    ) -> RetryDecision | None:
        """Return when to run the job again, or None to let it fail."""
        # The worker asks only if it stops: jobs that a user aborts end as aborted.
        if isinstance(exception, JobAborted | CancelledError):
            return RetryDecision()
        # A job that may run twice at all may do so after its worker died.
        if not isinstance(exception, (JobStalled, *self.exceptions)):
            return None
        if job.attempts + 1 >= self.max_attempts:
            return None
        wait = min(self.max_wait, self.wait * 2**job.attempts)
        # Jitter, so that jobs which failed together do not come back together.
        return RetryDecision(retry_in={"seconds": round(wait * random.uniform(0.5, 1))})
