"""What happens to a job whose body raised, or whose worker died."""

import errno
import random
import smtplib
import socket
import ssl
from asyncio import CancelledError
from contextvars import ContextVar
from dataclasses import dataclass
from urllib.error import HTTPError, URLError

import django.db
import psycopg
from procrastinate.exceptions import ConnectorException, JobAborted
from procrastinate.jobs import Job
from procrastinate.retry import BaseRetryStrategy, RetryDecision
from psycopg.errors import ReadOnlySqlTransaction

interruptions: ContextVar[int] = ContextVar("interruptions", default=0)
"""How many of the job's attempts a stopping or dying worker cut short."""


class JobStalled(Exception):
    """The job's worker died.

    Args:
        deaths: How many deaths of workers count against the job.
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


UNREACHABLE = {errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH}

RETRIED_STATUSES = {408, 425, 429, 500, 502, 503, 504}

HTTP_ERRORS = {
    "httpx.TransportError",
    "requests.exceptions.ChunkedEncodingError",
    "requests.exceptions.ConnectionError",
    "requests.exceptions.Timeout",
}
"""Errors of packages that the project may not have."""


class _ByDetails(type):
    def __instancecheck__(cls, error: BaseException) -> bool:
        return _has_transient_details(error)


class TransientByDetails(Exception, metaclass=_ByDetails):
    """Errors that are transient by what they say, not by their class.

    Only for `isinstance`: nothing raises it, and ``except`` does not know it. Among
    them are an SMTP server's "try again later", a database that became read-only,
    responses such as 429 and 503, and what requests and httpx raise on the way.
    """


TRANSIENT = (
    django.db.OperationalError,
    django.db.InterfaceError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    ConnectionError,
    TimeoutError,
    socket.gaierror,
    smtplib.SMTPServerDisconnected,
    TransientByDetails,
)
"""Errors that may be gone at the next attempt. Deadlocks are OperationalErrors."""


def _has_transient_details(error: BaseException) -> bool:
    match error:
        case smtplib.SMTPRecipientsRefused(recipients=recipients):
            return all(400 <= code < 500 for code, _ in recipients.values())
        case smtplib.SMTPResponseException(smtp_code=code):
            return 400 <= code < 500
        case HTTPError(code=code):
            return code in RETRIED_STATUSES
        case URLError(reason=BaseException() as reason):
            return isinstance(reason, TRANSIENT)
        case ssl.SSLError():
            return not isinstance(error, ssl.SSLCertVerificationError)
        case OSError(errno=number) if number in UNREACHABLE:
            return True
        case ConnectorException():  # a job could not be deferred
            return isinstance(error.__cause__, TRANSIENT)
        case django.db.DatabaseError(__cause__=psycopg.DatabaseError() as cause):
            return isinstance(cause, TRANSIENT)
        case ReadOnlySqlTransaction():
            return True
        case psycopg.DatabaseError() if type(error) is psycopg.DatabaseError:
            # Without a code, it is not from the server: libpq noticed that it crashed.
            return not error.diag.sqlstate
    response = getattr(error, "response", None)
    if getattr(response, "status_code", None) in RETRIED_STATUSES:
        return True
    classes = {f"{one.__module__}.{one.__qualname__}" for one in type(error).__mro__}
    return not classes.isdisjoint(HTTP_ERRORS)


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
