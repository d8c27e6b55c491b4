"""Lanes: threads in which a worker's sync jobs follow one another.

The event loop starts a lane with the first job. The lane runs the body; then one round
trip, on the Django connection that the body used, finishes the job and takes the next
one. What is no plain success, and what is async, goes back to the event loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
import logging
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any, NoReturn

import psycopg
from asgiref.sync import sync_to_async
from django.db import close_old_connections, connection, connections, transaction
from procrastinate import JobContext, middleware
from procrastinate.jobs import Job, Status
from procrastinate.tasks import Task
from psycopg import sql
from psycopg.pq import ExecStatus, TransactionStatus

from . import logs, upstream
from .sessions import RESET
from .supervision import SupervisedWorker

logger = logging.getLogger(__name__)

MAX_AGE = 60.0
"""Seconds that a lane keeps a connection of the pool."""

# See jobs.runs. The numbers are this module's own, and so need no quotes.
_FINISHED = """
WITH finished AS (
    UPDATE procrastinate_jobs
    SET status = 'succeeded', attempts = attempts + 1, abort_requested = false
    WHERE id = %d AND status = 'doing' AND attempts = %d
        AND (worker_id = %d OR worker_id IS NULL)
    RETURNING id
)
"""
_DELETED = """
WITH finished AS (
    DELETE FROM procrastinate_jobs
    WHERE id = %d AND status = 'doing' AND attempts = %d
        AND (worker_id = %d OR worker_id IS NULL)
    RETURNING id
)
"""
# The next job is looked for after the count, and so sees the lock of the last one free:
# each statement inside of the function has a snapshot of its own.
_AND_TAKE = """
SELECT held, job.id, job.task_name, job.priority, job.lock, job.queueing_lock, job.args,
    extract(epoch FROM job.scheduled_at), job.queue_name, job.attempts
FROM (SELECT count(*) AS held FROM finished) ended,
    LATERAL procrastinate_fetch_job_v2(%s, CASE WHEN held >= 0 THEN %d END) job
"""
_ONLY = "SELECT count(*) FROM finished"
# As on the worker's own connections, but for this one statement.
_NO_SORT = "SET LOCAL enable_sort = off;"

Outcome = Callable[[], Any]


class NotThisRun(Exception):
    """The job was given to another worker while this one ran it."""


class LaneWorker(SupervisedWorker):
    """A worker with lanes for its sync jobs.

    Args:
        lanes: Whether a lane takes the next job by itself. Without, only atomic jobs
            run in lanes, one in each.
    """

    def __init__(self, *, lanes: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self._takes = lanes
        # Not the loop's own executor, in which it also looks up hosts.
        self._executor = ThreadPoolExecutor(self.concurrency, "lane")
        queues = self.queues and list(self.queues)
        self._queues = sql.Literal(queues).as_string(None) if queues else "NULL"

    async def process(self, context: JobContext) -> None:
        """Run a job and those that follow it, in the slot of the first."""
        slot = asyncio.current_task()
        assert slot
        if self._lane_task(context):
            run = sync_to_async(
                self._run_lane, thread_sensitive=False, executor=self._executor
            )
            clean = contextvars.copy_context()
            left = await run(context, slot, clean, asyncio.get_running_loop())
            if left is None:
                return
            context, outcome = left
            self.running[slot] = context
            if outcome:
                await self.settle(context, outcome)
                self.look_for_jobs()
                return
        await super().process(context)
        # Its lock is free now, and other jobs may wait for it.
        self.look_for_jobs()

    def _lane_task(self, context: JobContext) -> Task[..., Any, ...] | None:
        task = self.app.tasks.get(context.job.task_name)
        if not task or inspect.iscoroutinefunction(task.func):
            return None
        return task if self._takes or is_atomic(task) else None

    # From here on, in the lane's thread

    def _run_lane(
        self,
        context: JobContext,
        slot: upstream.Slot,
        clean: contextvars.Context,
        loop: asyncio.AbstractEventLoop,
    ) -> tuple[JobContext, Outcome | None] | None:
        """Run jobs until there is none.

        Returns:
            The job that the loop goes on with and, if it has run, how it ended.
        """
        close_old_connections()
        since = time.monotonic()
        following: JobContext | None = context
        try:
            while following:
                if time.monotonic() > since + MAX_AGE:
                    connection.close()
                    since = time.monotonic()
                context = following
                task = self._lane_task(context)
                if not task:
                    return context, None
                self.running[slot] = context
                self.threads[context.job.id] = threading.get_ident()
                try:
                    outcome, following = clean.copy().run(self._run_job, task, context)
                finally:
                    self.threads.pop(context.job.id, None)
                if outcome:
                    return context, outcome
                if context.job.lock:
                    loop.call_soon_threadsafe(self.look_for_jobs)
            return None
        finally:
            for one in connections.all(initialized_only=True):
                one.close()

    def _run_job(
        self, task: Task[..., Any, ...], context: JobContext
    ) -> tuple[Outcome | None, JobContext | None]:
        """Run one job, and finish it if it succeeds.

        Returns:
            How it ended, if that is not a success, or else the next job.
        """
        job = context.job
        logs.set_job(job)
        logger.debug("Starting job %s[%d]", job.task_name, job.id)
        arguments = [context] if task.pass_context else []
        body = middleware.compose(
            self.sync_middleware(task),
            lambda: task(*arguments, **job.task_kwargs),
            context,
            self,
        )
        try:
            if is_atomic(task):
                row = self._run_atomic(body, job)
            else:
                value = body()
                if inspect.isawaitable(value):
                    return (lambda: value), None
                try:
                    clean_up()
                    row = self._exchange(job)
                except psycopg.Error as error:
                    logger.warning("Job %s is finished by the loop: %s", job.id, error)
                    return (lambda: value), None
        except NotThisRun:
            logger.warning("Job %s was given to another worker meanwhile", job.id)
            return None, None
        except BaseException as error:  # noqa: BLE001, the loop judges it
            return raiser(error), None
        self.finished(job)
        duration = time.time() - context.start_timestamp
        logger.info(
            "Job %s[%d] ended with status: Success, lasted %.3f s",
            job.task_name,
            job.id,
            duration,
            extra={"duration": duration, "action": "job_success"},
        )
        return None, self._taken(row)

    def _run_atomic(self, body: Callable[[], Any], job: Job) -> list[bytes | None]:
        """Run a body, finish its job and take the next one, in one transaction.

        Raises:
            TypeError: The body left work to the event loop.
            NotThisRun: The job was rescued; the transaction is rolled back.
        """
        committed: list[bool] = []
        row: list[bytes | None] = []
        try:
            with no_other_database(), transaction.atomic():
                transaction.on_commit(lambda: committed.append(True), robust=True)
                if inspect.isawaitable(body()):
                    raise TypeError("An atomic job must not return an awaitable")
                row = self._exchange(job, atomic=True)
        except Exception:
            if not committed:
                raise
            # Only what the body left to on_commit can have failed.
            logger.exception("Job %s is committed, but on_commit failed", job.id)
        clean_up()
        return row

    def _exchange(self, job: Job, *, atomic: bool = False) -> list[bytes | None]:
        """Finish a job and take the next one, in one round trip.

        Returns:
            The row of the next one.

        Raises:
            NotThisRun: The job is another worker's now.
        """
        assert job.id is not None
        worker_id = self.worker_id or 0
        end = _DELETED if self.deletes(Status.SUCCEEDED) else _FINISHED
        query = end % (job.id, job.attempts, worker_id)
        if self.stopping or not self._takes:
            query += _ONLY
        else:
            query = _NO_SORT + query + _AND_TAKE % (self._queues, worker_id)
        row = execute(query if atomic else RESET + query)
        if row[0] == b"0":
            raise NotThisRun
        return row

    def _taken(self, row: list[bytes | None]) -> JobContext | None:
        if len(row) == 1 or row[1] is None:
            return None
        _, pk, name, priority, lock, queueing_lock, args, due, queue, attempts = (
            None if value is None else value.decode() for value in row
        )
        job = Job(
            id=int(pk or 0),
            status=Status.DOING.value,
            queue=queue or "",
            priority=int(priority or 0),
            lock=lock,
            queueing_lock=queueing_lock,
            task_name=name or "",
            task_kwargs=json.loads(args or "{}"),
            scheduled_at=datetime.fromtimestamp(float(due), UTC) if due else None,
            attempts=int(attempts or 0),
            worker_id=self.worker_id,
        )
        return self.context(job, time.time())


def is_atomic(task: Task[..., Any, ...]) -> bool:
    """Tell if a task's body and the end of its job are one transaction."""
    return bool(getattr(vars(task).get("declaration"), "atomic", False))


def execute(query: str) -> list[bytes | None]:
    """Execute statements in one round trip; return the first row of the last one.

    Straight on libpq, in the lane's thread: for a statement without parameters, psycopg
    would only add time.
    """
    connection.ensure_connection()
    raw = connection.connection
    result = raw.pgconn.exec_(query.encode())
    if result.status != ExecStatus.TUPLES_OK:
        raise psycopg.errors.error_from_result(result, encoding="utf-8")
    return [result.get_value(0, n) for n in range(result.nfields)]


def clean_up() -> None:
    """Leave no transaction open and no connection broken."""
    for other in connections.all(initialized_only=True):
        other.queries_log.clear()
        if other is not connection and other.alias != connection.alias:
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


def raiser(error: BaseException) -> Outcome:
    """Return what raises an error again."""

    def raise_error() -> NoReturn:
        raise error

    return raise_error
