"""A job manager that takes and finishes several of Procrastinate's jobs in one statement.

A proof for a proposal: it replaces methods of Procrastinate's `JobManager`, and needs no other
schema. A job is taken only if a slot is free for it now, so none waits behind a slow one.
"""

import asyncio
import logging
from collections.abc import Iterable
from inspect import signature
from typing import Any

from procrastinate import sql
from procrastinate.connector import BaseConnector
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager

# What it leans on: the parameters of Procrastinate's methods, the functions in its queries.
METHODS = {
    "fetch_job": "self, queues, worker_id",
    "finish_job": "self, job, status, delete_job",
    "retry_job": "self, job, retry_at, priority, queue, lock",
    "unregister_worker": "self, worker_id",
}
QUERIES = {
    "fetch_job": "procrastinate_fetch_job_v2(%(queues)s::varchar[], %(worker_id)s)",
    "finish_job": "procrastinate_finish_job_v1(%(job_id)s, %(status)s, %(delete_job)s)",
}
# With the slot among its arguments it runs for each of them, and sees what it took before.
FETCH = """
SELECT job.* FROM generate_series(1, %(slots)s) AS slot,
    LATERAL procrastinate_fetch_job_v2(%(queues)s::varchar[], %(worker_id)s + 0 * slot) AS job
WHERE job.id IS NOT NULL
"""
FINISH = """
SELECT procrastinate_finish_job_v1(id, status::procrastinate_job_status, deleted)
FROM unnest(%(ids)s::bigint[], %(statuses)s::text[], %(deleted)s::boolean[])
    AS job (id, status, deleted)
"""
# Not a retry: the job has not begun, which leaves its attempts as they are.
HAND_BACK = """
UPDATE procrastinate_jobs SET worker_id = NULL,
    status = CASE WHEN abort_requested THEN 'aborted' ELSE 'todo' END::procrastinate_job_status
WHERE id = ANY(%(ids)s) AND status = 'doing'
"""


def make_job_manager(connector: BaseConnector, concurrency: int) -> JobManager:
    """Return one for a worker that runs so many jobs at once; it batches if it knows Procrastinate."""
    methods = {name: ", ".join(signature(getattr(JobManager, name)).parameters) for name in METHODS}
    if methods == METHODS and all(part in sql.queries[name] for name, part in QUERIES.items()):
        return BatchingJobManager(connector, concurrency)
    logging.getLogger(__name__).error("Jobs are not batched: Procrastinate has changed")
    return JobManager(connector)


class BatchingJobManager(JobManager):
    """Takes as many jobs at once as there are free slots; finishes together what ends together."""

    def __init__(self, connector: BaseConnector, concurrency: int) -> None:
        super().__init__(connector)
        self.concurrency = concurrency
        self.running: set[int | None] = set()
        self.taken: list[Job] = []
        self.ended: list[tuple[Job, Status, bool, asyncio.Future[None]]] = []
        self.finishing: asyncio.Task[None] | None = None

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        """Return a job that was taken before, or take as many as there are free slots."""
        if not self.taken:
            parameters: Any = {"slots": self.concurrency - len(self.running), "queues": queues}
            rows = await self.connector.execute_query_all_async(
                FETCH, worker_id=worker_id, **parameters
            )
            self.taken = [Job.from_row(row) for row in rows]
            # A worker that is told to stop asks for no more, and goes when its last job has ended.
            self.waiting = asyncio.create_task(self._hand_back(after=1))
        job = self.taken.pop(0) if self.taken else None
        if not self.taken:
            self.waiting.cancel()
        if job:
            self.running.add(job.id)
        return job

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:
        """Finish a job together with those that end while the last ones are being finished."""
        done = asyncio.get_running_loop().create_future()
        self.ended.append((job, status, delete_job, done))
        if not self.finishing:
            self.finishing = asyncio.create_task(self._finish())
        try:
            await done
        finally:
            self.running.discard(job.id)

    async def _finish(self) -> None:
        while batch := self.ended:
            self.ended = []
            results: list[Any] = [None] * len(batch)
            try:
                await self.connector.execute_query_async(
                    FINISH,
                    ids=[job.id for job, *_ in batch],
                    statuses=[status.value for _, status, *_ in batch],
                    deleted=[delete for _, _, delete, _ in batch],
                )
            except Exception:  # noqa: BLE001, whatever it is, one that cannot be finished fails alone
                finish = super().finish_job
                results = await asyncio.gather(
                    *(finish(*call) for *call, _ in batch), return_exceptions=True
                )
            for (*_, done), result in zip(batch, results, strict=True):
                if not done.done():  # the job may have been cancelled
                    done.set_exception(result) if result else done.set_result(None)
        self.finishing = None

    async def retry_job(self, job: Job, *args: Any, **kwargs: Any) -> None:
        """Do as Procrastinate does, and count the slot as free."""
        try:
            await super().retry_job(job, *args, **kwargs)
        finally:
            self.running.discard(job.id)

    async def unregister_worker(self, worker_id: int) -> None:
        """Hand back what was taken and not begun, before the worker goes."""
        await self._hand_back()
        await super().unregister_worker(worker_id)

    async def _hand_back(self, after: float = 0) -> None:
        await asyncio.sleep(after)
        jobs, self.taken = self.taken, []
        try:
            await self.connector.execute_query_async(HAND_BACK, ids=[job.id for job in jobs])
        except Exception:
            self.taken += jobs
            raise
