"""What happens to a job whose body raised, or whose worker died."""

import random
import smtplib
import socket
from asyncio import CancelledError
from contextvars import ContextVar
from dataclasses import dataclass

from django.db import InterfaceError, OperationalError
from procrastinate.exceptions import JobAborted
from procrastinate.jobs import Job
from procrastinate.retry import BaseRetryStrategy, RetryDecision

interruptions: ContextVar[int] = ContextVar("interruptions", default=0)
"""How many of the job's attempts a stopping or dying worker cut short."""


class JobStalled(Exception):
    """The job's worker died.

    Args:
        deaths: How many workers have died while they ran this job.
    """

    def __init__(self, deaths: int = 1) -> None:
        super().__init__(deaths)
        self.deaths = deaths


class JobTimedOut(Exception):
    """The job ran for longer than its declaration allows."""


class JobCut(Exception):
    """The worker ended while the job ran, and the job must not run twice."""


class EventLoopBlocked(Exception):
    """The job blocked the worker's event loop."""


class JobCancelledItself(Exception):
    """The job was cancelled, but neither by a person nor by its worker's end."""


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
    """Retry transient errors; fail at once on all others.

    Args:
        max_attempts: How often the body may raise. Attempts that a stopping or dying
            worker cut short do not count.
        max_deaths: How often the job's worker may die before the job counts as the
            cause, and fails.
        wait: Seconds before the second attempt; each later wait is twice as long.
        max_wait: The longest wait, in seconds.
        exceptions: The errors to retry.
    """

    max_attempts: int = 5
    max_deaths: int = 3
    wait: float = 5
    max_wait: float = 600
    exceptions: tuple[type[BaseException], ...] = TRANSIENT

    def get_retry_decision(
        self, *, exception: BaseException, job: Job
    ) -> RetryDecision | None:
        """Return when to run the job again, or None to let it fail."""
        # The worker only asks while it stops: a job that a person stops is not retried.
        if isinstance(exception, JobAborted | CancelledError):
            return RetryDecision()
        # A job that may be retried may also be retried after its worker died.
        if isinstance(exception, JobStalled):
            return RetryDecision() if exception.deaths < self.max_deaths else None
        if not isinstance(exception, self.exceptions):
            return None
        failed_before = job.attempts - interruptions.get()
        if failed_before + 1 >= self.max_attempts:
            return None
        wait = min(self.max_wait, self.wait * 2**failed_before)
        # Jitter, so that jobs which failed together do not come back together.
        return RetryDecision(retry_in={"seconds": round(wait * random.uniform(0.5, 1))})
