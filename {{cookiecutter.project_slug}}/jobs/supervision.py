"""Supervision: each job that a worker runs ends once and in time, and is recorded."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, NoReturn

import psycopg
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connections
from django.utils import timezone
from procrastinate import JobContext
from procrastinate.contrib.django import connector_params
from procrastinate.exceptions import (
    AlreadyEnqueued,
    ConnectorException,
    JobAborted,
    UniqueViolation,
)
from procrastinate.jobs import Job, Status
from procrastinate.middleware import SyncCallNext
from procrastinate.retry import RetryDecision
from procrastinate.tasks import Task
from procrastinate.worker import Worker

from . import failures, retry, runs, upstream
from .bridge import MAINTENANCE_QUEUE, declaration_of, hook

logger = logging.getLogger(__name__)

HEARTBEAT_INTERVAL = 10.0
"""Seconds between heartbeats."""
MAX_ORPHAN_AGE = 10.0
"""Seconds after which an orphaned job is put back, see `_give_back_orphans`."""
TIME_LIMIT_GRACE = 10.0
"""Seconds that a sync job may go on after its time limit, before its worker ends."""
CHECK_INTERVAL = 5.0
"""Seconds between the checks for orphaned jobs and dead workers."""
MAX_BLOCKED = 30.0
"""Seconds after which a worker ends if its event loop is blocked."""
READ_INTERVAL = 0.5
"""Seconds between two looks at which queues are paused."""
DELAY_AFTER_CUT = timedelta(seconds=2)
"""How long a job that was cut short waits, so that its old thread has ended by then."""

ORPHANS = """
SELECT * FROM procrastinate_jobs
WHERE worker_id = %(worker_id)s AND status = 'doing' AND id <> ALL(%(running)s::bigint[])
"""

# The first of an advisory lock's two numbers; any constant will do.
LOCK_CLASS = 0x6A6F6273

# Each worker holds a lock in a session of its own. PostgreSQL releases the lock as soon
# as the process dies. A heartbeat must be missing too: a living worker may not get the
# lock, as when the server has too many connections.
WORKERS_WITHOUT_LOCK = """
SELECT worker.id FROM procrastinate_workers worker
JOIN jobs_workerinfo ON worker_id = worker.id
WHERE last_heartbeat < now() - interval '12 seconds' AND NOT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND classid = %(lock)s
        AND objid = mod(worker.id, 2147483648)
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
)
"""

EXPIRE_HEARTBEATS = """
UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour'
WHERE id = ANY(%(workers)s)
"""

# The paused queues; and if there are any, the names of all queues, each of which is one
# look into an index.
PAUSES = """
WITH RECURSIVE known(name) AS (
    (SELECT '' FROM jobs_pausedqueue LIMIT 1)
    UNION ALL
    SELECT (SELECT min(queue_name) FROM procrastinate_jobs WHERE queue_name > name)
    FROM known WHERE name IS NOT NULL
)
SELECT queue AS name, true AS paused FROM jobs_pausedqueue
UNION ALL
SELECT name, false FROM known WHERE name <> ''
"""


class SupervisedWorker(upstream.Worker):
    """Procrastinate's worker, with supervision."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.threads: dict[int | None, int] = {}
        """The thread in which a sync job runs, by the job's id."""
        self.overdue: dict[int | None, Exception] = {}
        """The error of a job that is stopped, as at its time limit, by the job's id."""
        self._orphans: dict[tuple[int, int], float] = {}
        self._suspects: set[int] = set()
        self._paused: set[str] = set()
        self._last_tick = time.monotonic()
        self._ended = threading.Event()

    @property
    def stopping(self) -> bool:
        """Whether the worker was asked to stop, or ends without being asked."""
        return super().stopping or self._ended.is_set()

    # The end of a run

    async def end_run(
        self, job: Job, status: Status, decision: RetryDecision | None
    ) -> bool:
        """Record how a job ended. Try again until the database can be reached.

        Returns:
            False if the job was given to another worker meanwhile.
        """
        query = runs.FINISH
        if decision:
            query = runs.GIVE_BACK if status is Status.ABORTED else runs.RETRY
        elif self.deletes(status):
            query = runs.DELETE
        parameters = self._parameters(job, status, decision)
        pause = 0.5
        while True:
            try:
                connector = self.app.connector
                recorded = await connector.execute_query_all_async(query, **parameters)
                break
            except UniqueViolation:
                reason: Exception = AlreadyEnqueued()
            except ConnectorException as error:
                cause = error.__cause__
                # The retry strategy names a queue that cannot exist, for example.
                if isinstance(cause, psycopg.DataError) and query != runs.FINISH:
                    reason = cause
                else:
                    text = f"Ending job {job.id} failed, trying again: %s"
                    logger.warning(text, failures.text_of(error))
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, 10)
                    continue
            await failures.store_failure(self.app, job, reason)
            query = runs.FINISH
            parameters["status"] = Status.FAILED.value
        self.overdue.pop(job.id, None)
        if not recorded:
            logger.warning(
                "Job %s was given to another worker: this run changes nothing", job.id
            )
        elif announce := hook(self.app.tasks.get(job.task_name), "announce_end"):
            await run_in_thread(announce, job.id)
        return bool(recorded)

    def _parameters(
        self, job: Job, status: Status, decision: RetryDecision | None
    ) -> dict[str, Any]:
        now = timezone.now()
        retry_at = (decision and decision.retry_at) or now
        return {
            "job_id": job.id,
            "attempts": job.attempts,
            "worker_id": self.worker_id,
            "status": status.value,
            "retry_in": (retry_at - now).total_seconds(),
            "priority": decision and decision.priority,
            "queue": decision and decision.queue,
            "lock": decision and decision.lock,
        }

    # The end of the worker

    async def send_heartbeats(self) -> None:
        """Send heartbeats until the last job has ended, so that no job is rescued."""
        while True:
            # Sleep first: a worker without jobs would otherwise end during the query.
            await asyncio.sleep(HEARTBEAT_INTERVAL / 2)
            try:
                await self.send_heartbeat()
            except Exception as error:  # noqa: BLE001, the next one may succeed
                logger.warning("The heartbeat failed: %s", failures.text_of(error))

    async def stop_remaining_jobs(self) -> None:
        """Ask the remaining jobs to stop, and end the process if some do not."""
        self.ask_all_to_stop()
        # In development the graceful time is 3 seconds: all fits into honcho's 5.
        grace = self.shutdown_graceful_timeout or 0
        await asyncio.wait(self.running, timeout=min(2, 0.5 + grace / 12))
        if not self.running:
            return
        if not self.install_signal_handlers:  # inside another process, such as a test
            await asyncio.wait(self.running)
            return
        jobs = [context.job for context in self.running.values()]
        names = ", ".join(f"{job.task_name}[{job.id}]" for job in jobs)
        self._give_back_all()
        self._exit(f"The worker ends although these jobs are still running: {names}")

    def stop(self) -> None:
        """Stop when the running jobs have ended, or at once without an event loop."""
        if self.cancelled:
            # Its jobs are not put back: the upkeep finds out which of them did this.
            self._exit("The worker ends: a job stopped its event loop")
        super().stop()  # type: ignore[no-untyped-call]

    def _exit(self, reason: str) -> NoReturn:
        """End the process at once: its threads cannot be stopped otherwise."""
        logger.error(reason)
        # A stuck thread may hold a log handler's lock.
        within(2, flush_logs)
        os._exit(1)

    def _give_back_all(self) -> None:
        """Put all jobs back into their queues, or fail those that must not run twice.

        It needs neither the event loop nor its connections.
        """

        def give_back() -> None:
            try:
                with connect() as session:
                    for context in list(self.running.values()):
                        self._give_back(session, context)
                    session.execute(
                        "DELETE FROM procrastinate_workers WHERE id = %s",
                        [self.worker_id],
                    )
            except Exception as error:  # noqa: BLE001, the rescue will find them
                logger.error("Could not put jobs back: %s", failures.text_of(error))

        self._ended.set()  # lanes take no more jobs
        within(2, give_back)

    def _give_back(self, session: psycopg.Connection, context: JobContext) -> None:
        job = context.job
        error, decision = self._cut_short(context)
        if decision:
            try:
                parameters = self._parameters(job, Status.ABORTED, decision)
                session.execute(runs.GIVE_BACK, parameters)
                return
            except psycopg.errors.UniqueViolation:
                error = AlreadyEnqueued()
        columns = failures.columns(job, error, context.start_timestamp)
        session.execute(failures.INSERT_FAILURE, columns)
        session.execute(runs.FINISH, self._parameters(job, Status.FAILED, None))

    def _cut_short(
        self, context: JobContext
    ) -> tuple[BaseException, RetryDecision | None]:
        """Return a cut-short job's error, and when to run it again, or None."""
        if overdue := self.overdue.get(context.job.id):
            return overdue, None
        task = self.app.tasks.get(context.job.task_name)
        if not upstream.retry_decision(task, JobAborted(), context.job):
            return retry.JobCut("Its worker ended, and it must not run twice."), None
        return JobAborted(), RetryDecision(retry_at=timezone.now() + DELAY_AFTER_CUT)

    # Supervision

    async def supervise(self) -> None:
        """Enforce time limits, and look for orphaned jobs and dead workers."""
        if self.install_signal_handlers:  # else it runs inside another process
            await run_in_thread(self._introduce)
        last_check = time.monotonic()
        while True:
            await asyncio.sleep(1)
            now = time.monotonic()
            self._enforce_time_limits()
            if now > last_check + CHECK_INTERVAL:
                last_check = now
                try:
                    await self._give_back_orphans(now)
                    await self._rescue_from_dead_workers()
                except Exception as error:  # noqa: BLE001, the next check may succeed
                    logger.warning("Supervision failed, trying again: %s", error)

    def _introduce(self) -> None:
        from .models import WorkerInfo  # models were not ready before
        from .upkeep import delete_dead_workers

        periodic = upstream.periodic_tasks(self.app).values()
        WorkerInfo.objects.create(
            pk=self.worker_id or 0,
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=timezone.now(),
            queues=sorted({*(self.served or [])} - {MAINTENANCE_QUEUE}),
            tasks=sorted(self.app.tasks),
            periodic={one.task.name: upstream.cron_line(one) for one in periodic},
        )
        delete_dead_workers()

    def _enforce_time_limits(self) -> None:
        for slot, context in list(self.running.items()):
            limit = time_limit(self.app.tasks.get(context.job.task_name), context.job)
            ran = time.time() - context.start_timestamp
            if limit is None or ran < limit:
                continue
            if context.job.id not in self.overdue:
                self.overdue[context.job.id] = with_stack(
                    retry.JobTimedOut(f"It ran for longer than {limit:g} s."),
                    self.threads.get(context.job.id),
                )
                self.ask_to_stop(slot, context)
            elif ran > limit + TIME_LIMIT_GRACE and not self.stopping:
                logger.error(
                    "Job %s does not stop after its time limit: the worker ends",
                    context.job.id,
                )
                self.stop()

    async def _give_back_orphans(self, now: float) -> None:
        """Put back jobs that this worker took, but does not run: a reply was lost."""
        rows = await self.app.connector.execute_query_all_async(
            ORPHANS,
            worker_id=self.worker_id,
            running=[context.job.id for context in self.running.values()],
        )
        found = {(row["id"], row["attempts"]): Job.from_row(row) for row in rows}
        self._orphans = {run: self._orphans.get(run, now) for run in found}
        for run, job in found.items():
            if now >= self._orphans[run] + MAX_ORPHAN_AGE:
                logger.warning(
                    "Job %s is put back: it was taken, but not started", job.id
                )
                await self.end_run(job, Status.ABORTED, RetryDecision())

    async def _rescue_from_dead_workers(self) -> None:
        """Rescue the jobs of dead workers at once, before their heartbeats are too old.

        A living worker may lose its session, and so its lock, for a moment. So a worker
        is dead only if two checks find no lock.
        """
        from .upkeep import rescue_stalled_jobs

        rows = await self.app.connector.execute_query_all_async(
            WORKERS_WITHOUT_LOCK, lock=LOCK_CLASS
        )
        found = {row["id"] for row in rows}
        dead, self._suspects = found & self._suspects, found - self._suspects
        if dead:
            await self.app.connector.execute_query_async(
                EXPIRE_HEARTBEATS, workers=[*dead]
            )
            await run_in_thread(rescue_stalled_jobs, self.app)

    # Paused queues

    async def _read_pauses(self) -> None:
        rows = await self.app.connector.execute_query_all_async(PAUSES)
        self._obey_pauses((row["name"], row["paused"]) for row in rows)

    def _obey_pauses(self, rows: Iterable[tuple[str, bool]]) -> None:
        """Take no jobs from paused queues.

        Args:
            rows: The result of PAUSES.
        """
        names: dict[bool, list[str]] = {True: [], False: []}
        for name, is_paused in rows:
            names[is_paused].append(name)
        paused, queues = set(names[True]), self.served
        if paused:
            queues = [name for name in queues or names[False] if name not in paused]
        if queues != self.queues:
            self.queues = queues
        if paused != self._paused:
            self._paused = paused
            logger.info("Paused queues: %s", ", ".join(sorted(paused)) or "none")

    # The watchdog

    async def run(self) -> None:
        """Run the worker, and a thread that ends it if its event loop is blocked.

        The thread also reads which queues are paused.
        """
        await self._read_pauses()
        if self.install_signal_handlers:
            loop, thread = asyncio.get_running_loop(), threading.get_ident()
            self._tick(loop)
            watchdog = threading.Thread(
                target=self._watch, args=(loop, thread), name="watchdog", daemon=True
            )
            watchdog.start()
        try:
            await super().run()  # type: ignore[no-untyped-call]
        finally:
            self._ended.set()

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._last_tick = time.monotonic()
        if not self._ended.is_set():
            loop.call_later(1, self._tick, loop)

    def _watch(self, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        session: psycopg.Connection | None = None
        while not self._ended.wait(READ_INTERVAL):
            if time.monotonic() > self._last_tick + MAX_BLOCKED:
                self._end_blocked(loop, thread)
            if self.worker_id is not None:  # it is registered
                session = self._hold_lock_and_read_pauses(session)
        if session:
            session.close()

    def _hold_lock_and_read_pauses(
        self, session: psycopg.Connection | None
    ) -> psycopg.Connection | None:
        """Return the session with the lock that shows that this worker is alive."""
        try:
            if not session:
                session = connect()
                lock = [LOCK_CLASS, (self.worker_id or 0) % 2**31]
                session.execute("SELECT pg_try_advisory_lock(%s, %s)", lock)
            self._obey_pauses(session.execute(PAUSES).fetchall())
            return session
        except psycopg.Error as error:
            logger.warning(
                "No lock shows that this worker is alive, and it does not know"
                " which queues are paused now: %s",
                error,
            )
            if session:
                session.close()
            return None  # it tries again soon

    def _end_blocked(self, loop: asyncio.AbstractEventLoop, thread: int) -> NoReturn:
        error = with_stack(retry.EventLoopBlocked("It blocked the event loop."), thread)
        logger.error("The event loop is blocked for %d s", MAX_BLOCKED, exc_info=error)
        name = "something"
        slot = asyncio.current_task(loop)
        if culprit := slot and self.running.get(slot):
            name = f"job {culprit.job.task_name}[{culprit.job.id}]"
            self.overdue[culprit.job.id] = error
        self._give_back_all()
        self._exit(f"The worker ends: {name} blocks its event loop")


def remember_thread(
    call_next: SyncCallNext, context: JobContext, worker: Worker
) -> Any:
    """Remember in which thread a sync job runs. A task middleware.

    Raises:
        RuntimeError: The job raised StopIteration. The event loop would wait for ever
            for a thread that raises it.
    """
    threads: dict[int | None, int] = getattr(worker, "threads", {})
    threads[context.job.id] = threading.get_ident()
    try:
        return call_next()
    except StopIteration as error:
        raise RuntimeError("The job raised StopIteration") from error
    finally:
        del threads[context.job.id]


async def run_in_thread(function: Callable[..., None], *arguments: Any) -> None:
    """Run a function that uses Django's connections in a thread of its own."""

    def run() -> None:
        try:
            function(*arguments)
        finally:
            connections.close_all()

    await sync_to_async(run, thread_sensitive=False)()


def time_limit(task: Task[..., Any, ...] | None, job: Job) -> float | None:
    """Return how long a job may run, in seconds, if there is a limit."""
    declared = declaration_of(task)
    timeout = declared and declared.timeout
    limit = timeout(job) if callable(timeout) else timeout
    return limit.total_seconds() if limit else None


def connect() -> psycopg.Connection:
    """Connect to the worker's database, without waiting for a dead network."""
    url = settings.WORKER_DATABASE_URL
    parameters: dict[str, Any] = {"connect_timeout": 5, "tcp_user_timeout": 10_000}
    parameters |= {"conninfo": url} if url else connector_params()
    return psycopg.connect(**parameters, autocommit=True)


def with_stack(error: Exception, thread: int | None) -> Exception:
    """Add what a thread is doing to an error. An async job has no thread."""
    frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage], documented
    if frame := frames.get(thread or 0):
        stack = "".join(traceback.format_stack(frame))
        error.add_note(f"It was here:\n{stack}")
    return error


def within(seconds: float, function: Callable[[], None]) -> None:
    """Call a function, but do not wait for longer than this."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(seconds)


def flush_logs() -> None:
    """Flush the log handlers and Sentry."""
    logging.shutdown()
    if sentry := sys.modules.get("sentry_sdk"):
        sentry.flush(timeout=2)
