"""After which errors a job runs again, and when."""

import errno
from asyncio import CancelledError
from collections.abc import Callable
from datetime import timedelta
from email.message import Message
from itertools import pairwise
from smtplib import SMTPDataError, SMTPRecipientsRefused
from ssl import SSLCertVerificationError, SSLError
from urllib.error import HTTPError, URLError

import psycopg
import pytest
from django.db import DatabaseError, IntegrityError, InternalError, OperationalError
from django.utils import timezone
from procrastinate.exceptions import ConnectorException, JobAborted
from procrastinate.jobs import Job
from psycopg.errors import ReadOnlySqlTransaction

from ..retry import JobStalled, Retry, interruptions

Wait = Callable[..., timedelta | None]


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Wait:
    """How long a job waits after an error for its next attempt; None if it fails."""
    moment = timezone.now()
    monkeypatch.setattr("procrastinate.utils.utcnow", lambda: moment)

    def wait(
        error: BaseException, attempts: int = 0, policy: Retry | None = None
    ) -> timedelta | None:
        job = Job(
            attempts=attempts,
            id=1,
            queue="default",
            lock=None,
            queueing_lock=None,
            task_name="ship",
        )
        decision = (policy or Retry()).get_retry_decision(exception=error, job=job)
        if not decision:
            return None
        return (decision.retry_at or moment) - moment

    return wait


def caused_by(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


def http_error(status: int) -> HTTPError:
    return HTTPError("https://example.com", status, "", Message(), None)


def refused(*codes: int) -> SMTPRecipientsRefused:
    return SMTPRecipientsRefused(
        {f"{code}@example.com": (code, b"No") for code in codes}
    )


class Response:
    """A response of requests or httpx, which is what their errors have."""

    def __init__(self, status_code: int) -> None:
        self.status_code = status_code


class StatusError(Exception):
    """What ``raise_for_status`` raises."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.response = Response(status)


def foreign(module: str, name: str) -> Exception:
    """Return an error of a package that is not installed."""
    error: Exception = type(name, (Exception,), {"__module__": module})()
    return error


@pytest.mark.parametrize(
    "error",
    [
        OperationalError(),
        psycopg.OperationalError(),
        caused_by(InternalError(), ReadOnlySqlTransaction()),
        psycopg.DatabaseError("server closed the connection unexpectedly"),
        caused_by(DatabaseError(), psycopg.DatabaseError("server crashed")),
        caused_by(ConnectorException(), psycopg.OperationalError()),
        caused_by(ConnectorException(), ReadOnlySqlTransaction()),
        ConnectionResetError(),
        TimeoutError(),
        OSError(errno.EHOSTUNREACH, "No route to host"),
        SSLError("unexpected EOF"),
        URLError(ConnectionRefusedError()),
        http_error(503),
        SMTPDataError(450, "Try again later"),
        refused(450, 451),
        StatusError(429),
        foreign("httpx", "TransportError"),
        foreign("requests.exceptions", "Timeout"),
    ],
)
def test_transient_errors_are_retried(wait: Wait, error: BaseException) -> None:
    assert wait(error)


@pytest.mark.parametrize(
    "error",
    [
        IntegrityError(),
        InternalError(),
        caused_by(ConnectorException(), psycopg.ProgrammingError()),
        caused_by(DatabaseError(), psycopg.errors.UndefinedTable()),
        TypeError(),
        KeyError(),
        FileNotFoundError(errno.ENOENT, "No such file"),
        SSLCertVerificationError("certificate has expired"),
        URLError("unknown url type"),
        URLError(SSLCertVerificationError("certificate has expired")),
        http_error(404),
        SMTPDataError(554, "Spam"),
        refused(450, 550),
        StatusError(404),
        foreign("requests.exceptions", "InvalidURL"),
    ],
)
def test_other_errors_are_not_retried(wait: Wait, error: Exception) -> None:
    assert wait(error) is None
    assert wait(error, policy=Retry(exceptions=(type(error),)))


def test_only_the_errors_that_a_policy_names_are_retried(wait: Wait) -> None:
    policy = Retry(exceptions=(KeyError,))
    assert wait(KeyError(), policy=policy)
    assert wait(SMTPDataError(450, "Try again later"), policy=policy) is None


@pytest.mark.parametrize("error", [CancelledError(), JobAborted()])
def test_a_job_that_its_stopping_worker_cut_short_goes_back(
    wait: Wait, error: BaseException
) -> None:
    """Also an async job, however often it ran. The default would be to abort it."""
    assert wait(error, attempts=100) == timedelta()


def test_a_job_fails_after_its_last_attempt(wait: Wait) -> None:
    assert wait(OperationalError(), attempts=3)
    assert wait(OperationalError(), attempts=4) is None


def test_attempts_that_a_worker_cut_short_do_not_count(wait: Wait) -> None:
    token = interruptions.set(20)
    try:
        first, last = wait(OperationalError(), 20), wait(OperationalError(), 23)
        assert first
        assert last
        assert first < timedelta(seconds=10)
        assert last > timedelta(seconds=10)
        assert wait(OperationalError(), attempts=24) is None
    finally:
        interruptions.reset(token)


def test_a_job_fails_with_the_third_death_of_its_worker(wait: Wait) -> None:
    assert wait(JobStalled(1), attempts=100) == timedelta()
    assert wait(JobStalled(2), attempts=100) == timedelta()
    assert wait(JobStalled(3)) is None
    assert wait(JobStalled(3), policy=Retry(max_deaths=4)) == timedelta()


def test_waits_grow_up_to_a_limit_and_differ(wait: Wait) -> None:
    policy = Retry(max_attempts=100, wait=60, max_wait=600)
    waits = [wait(OperationalError(), n, policy) for n in (0, 2, 10)]
    seconds = [one.total_seconds() for one in waits if one]
    for least, found, most in zip((30, 120, 300), seconds, (60, 240, 600), strict=True):
        assert least <= found <= most
    assert all(first < second for first, second in pairwise(seconds))
    assert len({wait(OperationalError(), 10, policy) for _ in range(20)}) > 1
