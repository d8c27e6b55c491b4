"""The worker keeps its word: what it runs ends, once, in time, and is accounted for."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import socket
import sys
import threading
import time
import traceback
from datetime import timedelta
from types import FrameType
from typing import Any, NoReturn

import psycopg
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connections
from django.utils import timezone
from procrastinate import JobContext
from procrastinate.contrib.django import connector_params
from procrastinate.exceptions import ConnectorException, JobAborted, UniqueViolation
from procrastinate.jobs import Job, Status
from procrastinate.retry import RetryDecision
from procrastinate.tasks import Task
from psycopg.types.json import Jsonb

from . import failures, retry, runs, upstream

logger = logging.getLogger(__name__)

HEARTBEAT = 10.0
"""Seconds between signs of life."""
ORPHANED = 10.0
"""Seconds after which a job of this worker that nothing in it runs is handed back."""
AFTER_TIME_LIMIT = 10.0
"""Seconds that a sync job may go on after its time limit, before its worker ends."""
LOOK_EVERY = 5.0
"""Seconds between looks for jobs that nobody runs."""
BLOCKED = 30.0
"""Seconds without a turn of the event loop, after which the worker ends."""
PAUSE_AFTER_CUT = timedelta(seconds=2)
"""Until a job that was cut runs again, so that its threads are gone by then."""

OF_THIS_WORKER = """
SELECT id, attempts FROM procrastinate_jobs
WHERE worker_id = %(worker_id)s AND status = 'doing'
"""

# Any number, as long as it is always the same: advisory locks have two.
LOCK = 0x6A6F6273

# A living worker holds a lock in a session of its own. PostgreSQL gives it up at once
# when the process dies.
WITHOUT_LOCK = """
SELECT worker.id FROM procrastinate_workers worker
JOIN jobs_workerinfo ON worker_id = worker.id
WHERE NOT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND classid = %(lock)s AND objid = worker.id %% 2147483648
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
)
"""

DECLARE_DEAD = """
UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour'
WHERE id = ANY(%(workers)s)
"""

INTRODUCE = """
INSERT INTO jobs_workerinfo (worker_id, host, pid, started_at, queues, tasks, periodic)
VALUES (%(worker_id)s, %(host)s, %(pid)s, now(), %(queues)s, %(tasks)s, %(periodic)s)
ON CONFLICT (worker_id) DO NOTHING
"""


class SupervisedWorker(upstream.Worker):
    """Procrastinate's worker, with supervision."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.threads: dict[int | None, int] = {}
        """The thread in which a sync job runs, by the job's id."""
        self.overdue: dict[int | None, retry.JobTimedOut] = {}
        """The jobs whose time is over, with their stacks at that moment."""
        self._orphans: dict[tuple[int, int], float] = {}
        self._silent: set[int] = set()
        self._introduced = threading.Event()
        self._last_turn = time.monotonic()
        self._ended = threading.Event()

    # The end of a run

    async def end_run(
        self, job: Job, status: Status, decision: RetryDecision | None
    ) -> bool:
        """Record how a job ended, as soon as the database can be written.

        Returns:
            Whether that held: not if the job was given to another worker meanwhile.
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
                held = await connector.execute_query_all_async(query, **parameters)
                break
            except UniqueViolation:
                # A job with the same queueing lock waits already: that one will do.
                query = runs.FINISH
                parameters["status"] = Status.FAILED.value
            except ConnectorException as error:
                logger.warning(
                    "The end of job %s cannot be written, trying again: %s",
                    job.id,
                    failures.text_of(error),
                )
                await asyncio.sleep(pause)
                pause = min(2 * pause, 10)
        if not held:
            logger.warning(
                "Job %s was given to another worker: this run changes nothing", job.id
            )
        return bool(held)

    def _parameters(
        self, job: Job, status: Status, decision: RetryDecision | None
    ) -> dict[str, Any]:
        return {
            "job_id": job.id,
            "attempts": job.attempts,
            "worker_id": self.worker_id,
            "status": status.value,
            "retry_at": decision and decision.retry_at,
            "priority": decision and decision.priority,
            "queue": decision and decision.queue,
            "lock": decision and decision.lock,
        }

    # The end of the worker

    async def drain(self) -> None:
        """Beat on until the last job has ended: a silent worker's jobs are rescued."""
        beat = asyncio.create_task(self._beat(), name="drain")
        try:
            await super().drain()
        finally:
            beat.cancel()

    async def _beat(self) -> None:
        while True:
            try:
                await self.app.job_manager.update_heartbeat(self.worker_id or 0)
            except Exception as error:  # noqa: BLE001, the next one may succeed
                logger.warning("No heartbeat: %s", failures.text_of(error))
            await asyncio.sleep(HEARTBEAT)

    async def cut_jobs(self) -> None:
        """Ask the jobs to stop whose time is over; end the process under the rest."""
        self.ask_to_stop()
        # With three seconds, in development, all of it fits into honcho's five.
        grace = self.shutdown_graceful_timeout or 0
        await asyncio.wait(self.running, timeout=min(2, 0.5 + grace / 12))
        if not self.running:
            return
        if not self.install_signal_handlers:  # in a process that is not the worker's
            await asyncio.wait(self.running)
            return
        left = list(self.running.values())
        try:
            await asyncio.wait_for(self._give_back(left), timeout=2)
        except Exception as error:  # noqa: BLE001, the rescue will find them
            logger.error("Not handed back: %s", failures.text_of(error))
        names = ", ".join(f"{one.job.task_name}[{one.job.id}]" for one in left)
        self._exit(f"The worker ends although these jobs still run: {names}")

    async def _give_back(self, contexts: list[JobContext]) -> None:
        """Hand jobs back that did not stop, or fail those that must not run twice."""
        for context in contexts:
            error, decision = self._verdict(context)
            if decision is None:
                await failures.keep(context, error)
            status = Status.ABORTED if decision else Status.FAILED
            await self.end_run(context.job, status, decision)
        await self.app.job_manager.unregister_worker(self.worker_id or 0)

    def _verdict(
        self, context: JobContext
    ) -> tuple[BaseException, RetryDecision | None]:
        """Return what is kept of a job that is cut, and whether it runs again."""
        if overdue := self.overdue.get(context.job.id):
            return overdue, None
        task = self.app.tasks.get(context.job.task_name)
        if not upstream.retry_decision(task, JobAborted(), context.job):
            return retry.JobCut("Its worker ended, and it must not run twice."), None
        return JobAborted(), RetryDecision(retry_at=timezone.now() + PAUSE_AFTER_CUT)

    def _exit(self, reason: str) -> NoReturn:
        """End the process at once: its threads cannot be stopped otherwise."""
        logger.error(reason)
        flush_logs()
        os._exit(1)

    # Supervision

    async def supervise(self) -> None:
        """Look once a second for jobs whose time is over, and for those nobody runs."""
        if self.install_signal_handlers:  # else the process is not the worker's
            await self._introduce()
            self._introduced.set()
        looked = time.monotonic()
        while True:
            await asyncio.sleep(1)
            self._last_turn = now = time.monotonic()
            self._enforce_time_limits()
            if now > looked + LOOK_EVERY:
                looked = now
                try:
                    await self._hand_back_orphans(now)
                    await self._rescue_from_the_dead()
                except Exception as error:  # noqa: BLE001, the next look may succeed
                    logger.warning("Jobs are not looked after: %s", error)

    async def _introduce(self) -> None:
        periodic = upstream.periodic_tasks(self.app).values()
        await self.app.connector.execute_query_async(
            INTRODUCE,
            worker_id=self.worker_id,
            host=socket.gethostname(),
            pid=os.getpid(),
            queues=Jsonb(sorted(self.queues or [])),
            tasks=Jsonb(sorted(self.app.tasks)),
            periodic=Jsonb({one.task.name: one.cron for one in periodic}),
        )

    def _enforce_time_limits(self) -> None:
        for slot, context in list(self.running.items()):
            limit = time_limit(self.app.tasks.get(context.job.task_name))
            ran = time.time() - context.start_timestamp
            if limit is None or ran < limit:
                continue
            if context.job.id not in self.overdue:
                self.overdue[context.job.id] = self._timed_out(slot, context, limit)
                self.ask_to_stop(slot)
            elif ran > limit + AFTER_TIME_LIMIT and not self.stopping:
                logger.error(
                    "Job %s goes on after its time limit: the worker ends",
                    context.job.id,
                )
                self.stop()  # type: ignore[no-untyped-call]

    def _timed_out(
        self, slot: upstream.Slot, context: JobContext, limit: float
    ) -> retry.JobTimedOut:
        error = retry.JobTimedOut(f"It ran for longer than {limit:g} seconds.")
        if frame := frame_of(self.threads.get(context.job.id, 0)):
            stack = "".join(traceback.format_stack(frame))
        else:
            slot.print_stack(file=(text := io.StringIO()))
            stack = text.getvalue()
        error.add_note(f"It was here:\n{stack}")
        return error

    async def _hand_back_orphans(self, now: float) -> None:
        """Hand back the jobs that are this worker's, but of which it knows nothing.

        The reply that would have told it was lost.
        """
        rows = await self.app.connector.execute_query_all_async(
            OF_THIS_WORKER, worker_id=self.worker_id
        )
        running = {context.job.id for context in self.running.values()}
        found = {
            (row["id"], row["attempts"]) for row in rows if row["id"] not in running
        }
        self._orphans = {one: self._orphans.get(one, now) for one in found}
        for (pk, attempts), since in self._orphans.items():
            if now >= since + ORPHANED:
                logger.warning("Job %s is handed back: the take's reply was lost", pk)
                job = Job(
                    id=pk,
                    attempts=attempts,
                    queue="",
                    lock=None,
                    queueing_lock=None,
                    task_name="",
                )
                await self.end_run(job, Status.ABORTED, RetryDecision())

    async def _rescue_from_the_dead(self) -> None:
        """Rescue the jobs of workers that died, without waiting for heartbeats to stop.

        A living worker may lose its lock for a moment, with its session, so it takes two
        looks.
        """
        rows = await self.app.connector.execute_query_all_async(WITHOUT_LOCK, lock=LOCK)
        found = {row["id"] for row in rows}
        dead, self._silent = found & self._silent, found - self._silent
        if dead:
            await self.app.connector.execute_query_async(DECLARE_DEAD, workers=[*dead])
            await sync_to_async(self._rescue, thread_sensitive=False)()

    def _rescue(self) -> None:
        from .upkeep import rescue_stalled_jobs

        try:
            rescue_stalled_jobs(self.app)
        finally:
            connections.close_all()

    # The watchdog

    async def run(self) -> None:
        """Run the worker, and a thread that ends it if its event loop is blocked."""
        if self.install_signal_handlers:
            loop, thread = asyncio.get_running_loop(), threading.get_ident()
            watchdog = threading.Thread(
                target=self._watch, args=(loop, thread), name="watchdog", daemon=True
            )
            watchdog.start()
        try:
            await super().run()  # type: ignore[no-untyped-call]
        finally:
            self._ended.set()

    def _watch(self, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        self._last_turn = time.monotonic()
        session: psycopg.Connection | None = None
        while not self._ended.wait(1):
            if time.monotonic() > self._last_turn + BLOCKED:
                self._end_blocked(loop, thread)
            if self._introduced.is_set():
                session = self._hold_lock(session)
        if session:
            session.close()

    def _hold_lock(
        self, session: psycopg.Connection | None
    ) -> psycopg.Connection | None:
        """Return the session that has the lock by which others see this worker alive."""
        try:
            if session:
                session.execute("SELECT 1")
                return session
            session = psycopg.connect(**connection_parameters(), autocommit=True)
            number = (self.worker_id or 0) % 2**31
            session.execute("SELECT pg_advisory_lock(%s, %s)", [LOCK, number])
            return session
        except psycopg.Error:
            return None  # and again in a second

    def _end_blocked(self, loop: asyncio.AbstractEventLoop, thread: int) -> NoReturn:
        stack = "".join(traceback.format_stack(frame_of(thread)))
        logger.error("The event loop has not turned for %d s:\n%s", BLOCKED, stack)
        slot = asyncio.current_task(loop)
        culprit = self.running.get(slot) if slot else None
        try:
            with psycopg.connect(
                **connection_parameters(), autocommit=True
            ) as connection:
                for context in list(self.running.values()):
                    error, decision = self._verdict(context)
                    if context is culprit:
                        error = retry.EventLoopBlocked("It blocked the event loop.")
                        error.add_note(f"It was here:\n{stack}")
                        decision = None
                    if decision is None:
                        connection.execute(
                            failures.INSERT, failures.row(context, error)
                        )
                    status = Status.ABORTED if decision else Status.FAILED
                    connection.execute(
                        runs.GIVE_BACK if decision else runs.FINISH,
                        self._parameters(context.job, status, decision),
                    )
                connection.execute(
                    "DELETE FROM procrastinate_workers WHERE id = %s", [self.worker_id]
                )
        except Exception as error:  # noqa: BLE001, the rescue will find them
            logger.error("Not handed back: %s", failures.text_of(error))
        name = culprit and f"{culprit.job.task_name}[{culprit.job.id}]"
        self._exit(f"The worker ends: {name or 'no job'} blocks its event loop")


def time_limit(task: Task[..., Any, ...] | None) -> float | None:
    """Return how long a task's jobs may run, in seconds, if there is a limit."""
    declaration = vars(task).get("declaration") if task else None
    limit: timedelta | None = getattr(declaration, "timeout", None)
    return limit.total_seconds() if limit else None


def connection_parameters() -> dict[str, Any]:
    """Return how the worker connects, for psycopg."""
    if url := settings.WORKER_DATABASE_URL:
        return {"conninfo": url}
    return connector_params()


def frame_of(thread: int | None) -> FrameType | None:
    """Return the frame that a thread executes, if the thread runs."""
    frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage], documented
    return frames.get(thread or 0)


def flush_logs() -> None:
    """Write out what is logged, without waiting for other threads."""
    for reference in logging._handlerList:  # type: ignore[attr-defined]
        if handler := reference():
            handler.flush()
    if sentry := sys.modules.get("sentry_sdk"):
        sentry.flush(timeout=2)
