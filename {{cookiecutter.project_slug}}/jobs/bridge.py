"""Declare a job once; defer it from Django; implement it in the worker.

An app's ``tasks.py``, the bridge, declares a job as a function without a body::

    @job(queue="mail")
    def send_receipt(*, order_id: int) -> None:
        '''Mail the receipt of an order.'''

Views and services defer it: ``send_receipt.defer(order_id=order.pk)``. The worker's
``tasks`` package implements it: ``@bridge.send_receipt.task(app)``. Type checkers check
the signature on both sides, and Python checks it at the call.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from datetime import datetime, timedelta
from string import Formatter
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    TypedDict,
    TypeVar,
    Unpack,
    overload,
)

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.exceptions import SynchronousOnlyOperation
from django.db import transaction
from django.utils import timezone
from django.utils.module_loading import import_string
from procrastinate import App, JobContext
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException
from procrastinate.retry import BaseRetryStrategy
from procrastinate.tasks import Task
from psycopg import ProgrammingError

from . import upstream
from .retry import Retry

if TYPE_CHECKING:
    from .models import QueuedJob

__all__ = [
    "AlreadyEnqueued",
    "Call",
    "Job",
    "cancel_job",
    "declared",
    "find_job",
    "job",
]

P = ParamSpec("P")
R = TypeVar("R")

# Larger statements are no faster, and PostgreSQL takes at most a gigabyte.
CHUNK = 1_000

logger = logging.getLogger(__name__)

MAINTENANCE_QUEUE = "jobs.maintenance"
"""The upkeep's queue. Every worker serves it, and it cannot be paused."""

declared: dict[str, Job[...]] = {}
"""Every declared job by its name."""


class DeferOptions(TypedDict, total=False):
    """What one call may set; the rest comes from the declaration."""

    queue: str
    priority: int
    lock: str | None
    queueing_lock: str | None
    schedule_at: datetime | None
    schedule_in: timedelta | None


@dataclasses.dataclass(frozen=True)
class Call(Generic[P]):
    """The checked arguments of one job, for `Job.batch_defer`."""

    name: str
    arguments: dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job(Generic[P]):
    """A declared job. Made by `job`, whose arguments are described there."""

    # Named as in Procrastinate's tasks, so that `faults` works with both.
    name: str
    func: Callable[P, object]
    queue: str
    priority: int
    lock: str | None
    queueing_lock: str | None
    retry_strategy: BaseRetryStrategy | None
    aliases: tuple[str, ...]
    atomic: bool = False
    timeout: timedelta | Callable[[upstream.QueueRow], timedelta | None] | None = None
    schedule_at: datetime | None = None
    schedule_in: timedelta | None = None

    @functools.cached_property
    def signature(self) -> inspect.Signature:
        """The job's parameters."""
        return inspect.signature(self.func)

    def configure(self, **options: Unpack[DeferOptions]) -> Job[P]:
        """Return the job with other options, for one call.

        Args:
            options: ``queue``, ``priority`` (higher runs first), ``lock`` and
                ``queueing_lock`` (templates, as in `job`), ``schedule_at`` (an aware
                datetime) or ``schedule_in`` (a timedelta after `defer`).

        Raises:
            TypeError: There is no such option.
            ValueError: Both ``schedule_at`` and ``schedule_in`` are given, or an
                option makes the job invalid, see `faults`.
        """
        if unknown := options.keys() - DeferOptions.__annotations__.keys():
            raise TypeError(f"{self.name} has no defer option {min(unknown)!r}")
        configured = dataclasses.replace(self, **options)
        if configured.schedule_at and configured.schedule_in is not None:
            raise ValueError("give schedule_at or schedule_in, not both")
        for _, fault in faults(configured):
            raise ValueError(f"{self.name}: {fault}")
        return configured

    def defer(self, *args: P.args, **kwargs: P.kwargs) -> int:
        """Add the job to the queue, in the open transaction.

        Returns:
            The job's id. The job starts after the transaction commits; a rollback
            removes it.

        Raises:
            TypeError: The arguments do not match the declaration, or JSON cannot
                represent them.
            AlreadyEnqueued: A job with the same queueing lock is already waiting. The
                transaction remains usable.
            SynchronousOnlyOperation: The caller is async code.
        """
        return self.batch_defer([self.call(*args, **kwargs)])[0]

    async def defer_async(self, *args: P.args, **kwargs: P.kwargs) -> int:
        """Do the same as `defer`, from async code."""
        return await sync_to_async(self.defer)(*args, **kwargs)

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Call[P]:
        """Return checked arguments, for `batch_defer`.

        Raises:
            TypeError: They do not match the declaration, or JSON cannot represent them.
        """
        try:
            arguments = self.signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise TypeError(f"{self.name}: {error}") from None
        for key, value in arguments.items():
            if problem := json_problem(value):
                raise TypeError(
                    f"{self.name}: JSON cannot represent {key}={value!r} ({problem});"
                    " pass an id or a string"
                )
        return Call(self.name, arguments)

    def batch_defer(self, calls: Iterable[Call[P]]) -> list[int]:
        """Defer many calls, all or none, with a thousand in each round trip.

        Args:
            calls: Made by `call`.

        Returns:
            The jobs' ids, in the calls' order.

        Raises:
            TypeError: A call is for another job. See `defer` for the other exceptions.
        """
        upstream.require_django()
        rows = [self._row(call) for call in calls]
        # Without a savepoint, a violated lock would abort the caller's transaction, and
        # PostgreSQL silently rolls an aborted transaction back when it is committed.
        atomic = self.queueing_lock or len(rows) > CHUNK
        ids: list[int] = []
        try:
            with transaction.atomic() if atomic else nullcontext():
                for start in range(0, len(rows), CHUNK):
                    chunk = upstream.defer(rows[start : start + CHUNK])
                    logger.info("Deferred %s%s", self.name, chunk)
                    ids += chunk
        except SynchronousOnlyOperation as error:
            error.add_note("In async code, await defer_async or batch_defer_async.")
            raise
        except ConnectorException as error:
            if isinstance(error.__cause__, ProgrammingError):
                error.add_note(
                    "Migrate first. If this is a migration, it must depend on"
                    " procrastinate's."
                )
            raise
        return ids

    async def batch_defer_async(self, calls: Iterable[Call[P]]) -> list[int]:
        """Do the same as `batch_defer`, from async code."""
        return await sync_to_async(self.batch_defer)(calls)

    def _row(self, call: Call[P]) -> upstream.QueueRow:
        if call.name != self.name:
            raise TypeError(f"{self.name}: the batch has a call of {call.name}")
        values = call.arguments
        if self.lock or self.queueing_lock:
            bound = self.signature.bind(**values)
            bound.apply_defaults()
            values = bound.arguments
        due = self.schedule_at
        if self.schedule_in is not None:
            due = timezone.now() + self.schedule_in
        return upstream.QueueRow(
            task_name=self.name,
            # Without defaults: the worker applies its own.
            task_kwargs=call.arguments | _extra_arguments()(),
            queue=self.queue,
            priority=self.priority,
            lock=self.lock and self.lock.format(**values),
            queueing_lock=self.queueing_lock and self.queueing_lock.format(**values),
            scheduled_at=due,
        )

    @overload
    def task(
        self, app: App, *, pass_context: Literal[False] = False
    ) -> Callable[[Callable[P, R]], Task[P, R, P]]: ...

    @overload
    def task(
        self, app: App, *, pass_context: Literal[True]
    ) -> Callable[
        [Callable[Concatenate[JobContext, P], R]],
        Task[Concatenate[JobContext, P], R, P],
    ]: ...

    def task(self, app: App, *, pass_context: bool = False) -> Any:
        """Return the decorator that makes a function this job's body in the worker.

        Args:
            app: The worker's app.
            pass_context: Whether the body's first argument is the job's `JobContext`.

        Raises:
            TypeError: The job is atomic, and the body is async.
        """
        implement: Callable[..., Any] = app.task

        def bind(body: Callable[..., Any]) -> Any:
            if self.atomic and inspect.iscoroutinefunction(body):
                raise TypeError(f"{self.name} is atomic: its body must not be async")
            task = implement(
                name=self.name,
                aliases=list(self.aliases),
                queue=self.queue,
                priority=self.priority,
                # For periodic jobs, which the worker defers itself.
                lock=self.lock,
                queueing_lock=self.queueing_lock,
                retry=self.retry_strategy or False,
                pass_context=pass_context,
            )(body)
            vars(task)["declaration"] = self
            return task

        return bind


def job(
    *,
    name: str = "",
    queue: str = "default",
    priority: int = 0,
    lock: str | None = None,
    queueing_lock: str | None = None,
    retry: BaseRetryStrategy | None = Retry(),  # noqa: B008, it has no state
    aliases: tuple[str, ...] = (),
    atomic: bool = False,
    timeout: timedelta | Callable[[upstream.QueueRow], timedelta | None] | None = None,
) -> Callable[[Callable[P, None]], Job[P]]:
    """Return the decorator that declares a job from a signature without a body.

    Args:
        name: The job's name in the queue; by default the app and the function, as in
            ``shop.send_receipt``. Jobs that are already waiting keep their name.
        queue: The queue's name, at most 40 bytes: PostgreSQL's channel names have 63.
        priority: Higher runs first.
        lock: Jobs with the same lock run one at a time, in order. A template for
            the arguments, as in ``order:{order_id}``.
        queueing_lock: At most one job with the same queueing lock waits. Also a
            template. Needs ``retry=None``: a retry would collide with that job.
        retry: What happens when the body raises; with None, the job fails at once.
        aliases: Former names, for jobs that still wait under them.
        atomic: Whether the body and the end of the job are one transaction: its effects
            in the database then happen exactly once. Only for sync bodies.
        timeout: How long a job may run before it fails. Then ``context.should_abort()``
            becomes true, and an async job is cancelled. If a sync job is still running
            ten seconds later, its worker ends. May be a function of the job's row.

    Raises:
        TypeError: The declaration has ``*args``, ``**kwargs`` or positional-only
            parameters, or another job has the same name.
    """

    def declare(stub: Callable[P, None]) -> Job[P]:
        app = stub.__module__.removesuffix(".tasks")
        full_name = name or f"{app}.{stub.__name__}"
        kinds = {p.kind for p in inspect.signature(stub).parameters.values()}
        if not kinds <= {
            inspect.Parameter.KEYWORD_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
        }:
            raise TypeError(
                f"{full_name}: *args, **kwargs and positional-only parameters"
                " are not allowed"
            )
        if full_name in declared:
            raise TypeError(f"{full_name}: declared twice")
        declared[full_name] = declaration = Job[P](
            name=full_name,
            func=stub,
            queue=queue,
            priority=priority,
            lock=lock,
            queueing_lock=queueing_lock,
            retry_strategy=retry,
            aliases=aliases,
            atomic=atomic,
            timeout=timeout,
        )
        return declaration

    return declare


def cancel_job(job_id: int) -> None:
    """Cancel a waiting job, or ask a running one to stop.

    A job that has ended stays as it is. A running one stops at once if it is async, and
    otherwise when it next checks ``context.should_abort()``.

    Args:
        job_id: As `Job.defer` returned it.
    """
    upstream.cancel(job_id, running=True)


def find_job(job_id: int) -> QueuedJob | None:
    """Return a job with its ``status``, ``attempts`` and so on.

    Args:
        job_id: As `Job.defer` returned it.

    Returns:
        None if it was pruned. Store what you need for longer in a model of your own.
    """
    from .models import QueuedJob  # bridges are imported before models are ready

    return QueuedJob.objects.filter(pk=job_id).first()


def declaration_of(task: Task[..., Any, ...] | None) -> Job[...] | None:
    """Return the declaration to which a task is bound."""
    return vars(task).get("declaration") if task else None


def hook(task: Task[..., Any, ...] | None, name: str) -> Callable[..., None] | None:
    """Return a function that `jobs.tasks_backend` attached to a task."""
    return vars(task).get(name) if task else None


def faults(job: Job[...] | Task[..., Any, ...]) -> Iterator[tuple[str, str]]:
    """Yield what makes a job invalid: the id of a check, and a sentence."""
    if job.queueing_lock and job.retry_strategy:
        yield "E005", "a retry collides with a job waiting under the same queueing lock"
    if len(job.name) > 128 or len(job.queue.encode()) > 40:
        yield "E006", "a job's name may have 128 characters, a queue's 40 bytes"
    for lock in filter(None, (job.lock, job.queueing_lock)):
        try:
            fields = [field for _, field, _, _ in Formatter().parse(lock)]
        except ValueError as error:
            yield "E008", f"the lock {lock!r} is not a valid template: {error}"
            continue
        names = {re.split(r"\W", field)[0] for field in fields if field is not None}
        if names - inspect.signature(job.func).parameters.keys():
            yield "E008", f"the lock {lock!r} has fields that are not arguments"


@functools.cache
def _extra_arguments() -> Callable[[], dict[str, str]]:
    """Return the function in JOBS_EXTRA_ARGUMENTS: every job gets its result.

    A worker middleware must remove these arguments: no task declares them.
    """
    path = getattr(settings, "JOBS_EXTRA_ARGUMENTS", "")
    return import_string(path) if path else dict


def json_problem(value: object) -> str:
    """Return why the queue would not return a value unchanged, or nothing."""
    if value is None or type(value) in (bool, int):
        return ""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        return str(error)
    if json.loads(text) != value:
        return "it would come back changed"
    if "\\u0000" in text.replace(r"\\", ""):
        return "PostgreSQL stores no NUL characters"
    return ""
