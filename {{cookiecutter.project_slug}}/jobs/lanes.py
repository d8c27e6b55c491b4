"""Lanes: threads that each run a worker's sync jobs one after another.

The event loop starts a lane with its first job. The lane runs the body; then one round
trip, on the Django connection that the body used, finishes the job and takes the next
one. Jobs that do not succeed, and async ones, go back to the event loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
import logging
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import Any, NoReturn, TypeVar

import psycopg
from asgiref.sync import sync_to_async
from django.db import Error, close_old_connections, connection, connections, transaction
from procrastinate import JobContext, middleware
from procrastinate.jobs import Job, Status
from procrastinate.middleware import AsyncCallNext
from procrastinate.retry import RetryDecision
from procrastinate.tasks import Task
from procrastinate.worker import Worker
from psycopg import sql
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus

from . import logs, runs, upstream
from .bridge import declaration_of, hook
from .sessions import RESET
from .supervision import SupervisedWorker

logger = logging.getLogger(__name__)

MAX_CONNECTION_AGE = 60.0
"""Seconds after which a lane returns its connection to the pool."""

# PostgreSQL counts first, and each statement inside the function has its own snapshot:
# so the function sees that the lock of the finished job is free.
_TAKE_NEXT = f"""
SELECT done, row_to_json(job)
FROM (SELECT count(*) AS done FROM finished) ended,
    LATERAL {upstream.FETCH_JOB}(
        CASE WHEN done = 1 THEN %s::varchar[] ELSE ARRAY[]::varchar[] END, %d
    ) job
"""
_TAKE_NONE = "SELECT count(*) FROM finished"
# For this one statement; the worker's own connections always have it.
_DISABLE_SORT = "SET LOCAL enable_sort = off;"

R = TypeVar("R")
Outcome = tuple[Any, BaseException | None]
"""What a body returned, or raised."""


class JobReassigned(Exception):
    """The job was given to another worker while this one ran it."""


class LaneWorker(SupervisedWorker):
    """A worker with lanes for its sync jobs.

    Args:
        lanes: Whether there are lanes. If not, Procrastinate starts each job, but
            atomic jobs still end in their transactions.
    """

    def __init__(self, *, lanes: bool = True, **options: Any) -> None:
        around = [*options.pop("worker_middleware", []), self._run_body]
        super().__init__(worker_middleware=around, **options)
        self._lanes = lanes
        self._outcomes: dict[int | None, Outcome] = {}
        self._completed: set[int | None] = set()
        # Not the event loop's own executor, which also looks up host names.
        self._executor = ThreadPoolExecutor(self.concurrency, "lane")

    async def process(self, context: JobContext) -> None:
        """Run a job, and the jobs that its lane takes after it, in one slot."""
        slot = asyncio.current_task()
        assert slot
        unfinished: JobContext | None = context
        if self._lanes and self._sync_task(context):
            unfinished = await self._in_thread(self._run_lane, context, slot)
        if unfinished:
            self.running[slot] = unfinished
            await super().process(unfinished)
        # Its lock is free now, and other jobs may wait for it.
        self.look_for_jobs()

    async def end_run(
        self, job: Job, status: Status, decision: RetryDecision | None
    ) -> bool:
        """Record how a job ended, unless that was part of its transaction."""
        if job.id in self._completed:
            self._completed.remove(job.id)
            return True
        return await super().end_run(job, status, decision)

    async def _run_body(
        self, call_next: AsyncCallNext, context: JobContext, worker: Worker
    ) -> Any:
        """Return or raise what the body did in its lane, or run it. A middleware."""
        if outcome := self._outcomes.pop(context.job.id, None):
            value, error = outcome
            if error:
                raise error
            return await value if inspect.isawaitable(value) else value
        task = self._sync_task(context)
        if task and is_atomic(task):
            return await self._in_thread(self._run_alone, task, context)
        return await call_next()

    async def _in_thread(self, function: Callable[..., R], *args: Any) -> R:
        return await sync_to_async(
            function, thread_sensitive=False, executor=self._executor
        )(*args)

    def _sync_task(self, context: JobContext) -> Task[..., Any, ...] | None:
        task = self.app.tasks.get(context.job.task_name)
        return task if task and not inspect.iscoroutinefunction(task.func) else None

    # From here on, in a thread

    def _run_alone(self, task: Task[..., Any, ...], context: JobContext) -> None:
        """Run and finish an atomic job, and take no other."""
        close_old_connections()
        try:
            self._run_atomic(task, context)
            self._completed.add(context.job.id)
            announce_success(task)
        except JobReassigned:
            pass  # the event loop notices it, too
        finally:
            connections.close_all()

    def _run_lane(self, context: JobContext, slot: upstream.Slot) -> JobContext | None:
        """Run jobs until there is none to take.

        Returns:
            None, or a job that the event loop must run or finish.
        """
        close_old_connections()
        connected_at = time.monotonic()
        clean = contextvars.copy_context()
        following: JobContext | None = context
        try:
            while following:
                if time.monotonic() > connected_at + MAX_CONNECTION_AGE:
                    connection.close()
                    connected_at = time.monotonic()
                context = following
                task = self._sync_task(context)
                if not task:
                    return context
                self.running[slot] = context
                following = clean.copy().run(self._run_job, task, context)
                if context.job.id in self._outcomes:
                    return context
                if context.job.lock:
                    self.look_for_jobs()
            return None
        finally:
            connections.close_all()

    def _body(
        self, task: Task[..., Any, ...], context: JobContext
    ) -> Callable[..., Any]:
        """Return a body with its arguments, and the middlewares around it."""
        arguments = [context] if task.pass_context else []
        return middleware.compose(
            self.sync_middleware(task),
            lambda: task(*arguments, **context.job.task_kwargs),
            context,
            self,
        )

    def _run_job(
        self, task: Task[..., Any, ...], context: JobContext
    ) -> JobContext | None:
        """Run one job; finish it if it succeeds, or keep its outcome.

        Returns:
            The next job, if there is one to take.
        """
        job = context.job
        logs.set_job(job)
        upstream.job_logger.debug("Starting job %s[%d]", job.task_name, job.id)
        try:
            if is_atomic(task):
                row = self._run_atomic(task, context)
            else:
                value = self._body(task, context)()
                if inspect.isawaitable(value):
                    self._outcomes[job.id] = value, None
                    return None
                try:
                    clean_up()
                    row = self._finish_and_take(job)
                except Error as error:
                    logger.warning(
                        "Job %s could not be ended in its lane: %s", job.id, error
                    )
                    self._outcomes[job.id] = value, None
                    return None
        except JobReassigned:
            logger.warning("Job %s was given to another worker meanwhile", job.id)
            return None
        except BaseException as error:  # noqa: BLE001, the event loop handles it
            self._outcomes[job.id] = None, error
            return None
        self.forget_request_to_stop(job)
        announce_success(task)
        duration = time.time() - context.start_timestamp
        upstream.job_logger.info(
            "Job %s[%d] ended with status: Success, lasted %.3f s",
            job.task_name,
            job.id,
            duration,
            extra={"duration": duration, "action": "job_success"},
        )
        return self._next_context(row)

    def _run_atomic(
        self, task: Task[..., Any, ...], context: JobContext
    ) -> list[bytes]:
        """Run a body, finish its job and take the next one, in one transaction.

        Raises:
            TypeError: The body returned an awaitable.
            JobReassigned: The job was rescued; the transaction is rolled back.
        """
        body, job = self._body(task, context), context.job
        if start_attempt := hook(task, "start_attempt"):
            start_attempt(context)
        committed: list[bool] = []
        row: list[bytes] = []
        try:
            with no_other_database(), transaction.atomic():
                transaction.on_commit(lambda: committed.append(True), robust=True)
                if inspect.isawaitable(body()):
                    raise TypeError("An atomic job must not return an awaitable")
                row = self._finish_and_take(job)
        except Exception:
            if not committed:
                raise
            # Only an on_commit callback can have failed.
            logger.exception("An on_commit callback of job %s failed", job.id)
        clean_up()
        return row

    def _finish_and_take(self, job: Job) -> list[bytes]:
        """Reset the session, finish a job and take the next one, in one round trip.

        Returns:
            How many jobs were finished (0 or 1), then the next job as JSON.

        Raises:
            JobReassigned: The job was given to another worker.
        """
        assert job.id is not None
        worker_id = self.worker_id or 0
        end = runs.DELETE if self.deletes(Status.SUCCEEDED) else runs.FINISH
        # These values need no quotes, except for the constant status.
        query = f"WITH finished AS ({end})" % {
            "job_id": job.id,
            "attempts": job.attempts,
            "worker_id": worker_id,
            "status": "'succeeded'",
        }
        if self.stopping or not self._lanes:
            query += _TAKE_NONE
        else:
            queues = (
                "NULL"
                if self.queues is None
                else sql.Literal(self.queues).as_string(None)
            )
            query = _DISABLE_SORT + query + _TAKE_NEXT % (queues, worker_id)
        row = execute(RESET + query)
        if row[0] == b"0":
            raise JobReassigned
        return row

    def _next_context(self, row: list[bytes]) -> JobContext | None:
        found: dict[str, Any] = json.loads(row[1]) if len(row) > 1 else {"id": None}
        if found["id"] is None:
            return None
        if due := found["scheduled_at"]:
            found["scheduled_at"] = datetime.fromisoformat(due)
        return self.context(Job.from_row(found), time.time())


def announce_success(task: Task[..., Any, ...]) -> None:
    """Announce that a Django task has finished."""
    if announce := hook(task, "announce_success"):
        announce()
        clean_up()


def is_atomic(task: Task[..., Any, ...]) -> bool:
    """Tell if a task's body and the end of its job are one transaction."""
    declared = declaration_of(task)
    return bool(declared and declared.atomic)


def execute(query: str) -> list[bytes]:
    """Execute statements in one round trip; return the first row of the last one.

    It calls libpq directly: for statements without parameters, psycopg would only add
    time.
    """
    connection.ensure_connection()
    raw = connection.connection
    with connection.wrap_database_errors:
        result = raw.pgconn.exec_(query.encode())
        if result.status != ExecStatus.TUPLES_OK:
            # A lost connection has no error code, which psycopg would need.
            if raw.pgconn.status != ConnStatus.OK:
                raise psycopg.OperationalError("the connection is lost")
            raise psycopg.errors.error_from_result(result, encoding="utf-8")
    return [result.get_value(0, n) or b"" for n in range(result.nfields)]


def clean_up() -> None:
    """Close connections that are broken or have an open transaction."""
    for other in connections.all(initialized_only=True):
        other.queries_log.clear()
        if other.alias != connection.alias:
            other.close_if_unusable_or_obsolete()
    raw = connection.connection
    if raw is not None and (
        raw.closed
        or raw.info.transaction_status != TransactionStatus.IDLE
        or connection.errors_occurred
        or connection.get_autocommit() != connection.settings_dict["AUTOCOMMIT"]
    ):
        connection.close()


@contextmanager
def no_other_database() -> Generator[None]:
    """Refuse queries to other databases: their effects would not be in the transaction."""

    def refuse(*args: Any) -> NoReturn:
        raise RuntimeError("An atomic job must not use another database")

    with ExitStack() as stack:
        for alias in connections:
            if alias != connection.alias:
                stack.enter_context(connections[alias].execute_wrapper(refuse))
        yield
