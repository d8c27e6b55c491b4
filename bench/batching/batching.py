"""A job manager that takes and finishes several of Procrastinate's jobs in one statement.

A proof for a proposal: it replaces two methods of Procrastinate's `JobManager`, and needs no other
schema. A job is taken only if a slot is free for it now, so none waits behind a slow one.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any

from procrastinate.connector import BaseConnector
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager

FETCH = """
SELECT job.id, status, task_name, priority, lock, queueing_lock, args, scheduled_at, queue_name,
    attempts, worker_id
FROM generate_series(1, %(slots)s) AS slot,
    -- With the slot among its arguments it runs for each of them, and sees what it took before.
    LATERAL procrastinate_fetch_job_v2(%(queues)s::varchar[], %(worker_id)s + 0 * slot) AS job
WHERE job.id IS NOT NULL
"""
FINISH = """
SELECT procrastinate_finish_job_v1(job.id, job.status::procrastinate_job_status, job.deleted)
FROM unnest(%(ids)s::bigint[], %(statuses)s::text[], %(deleted)s::boolean[])
    AS job (id, status, deleted)
"""
# Not a retry: the job has not begun, which leaves its attempts as they are.
HAND_BACK = """
UPDATE procrastinate_jobs
SET status = CASE WHEN abort_requested THEN 'aborted' ELSE 'todo' END::procrastinate_job_status,
    worker_id = NULL
WHERE id = ANY(%(ids)s) AND status = 'doing'
"""


class BatchingJobManager(JobManager):
    """Takes as many jobs at once as there are free slots; finishes together what ends together.

    Args:
        connector: The worker's connections.
        concurrency: How many jobs the one worker that uses this runs at once.
    """

    def __init__(self, connector: BaseConnector, concurrency: int) -> None:
        super().__init__(connector)
        self.concurrency = concurrency
        self.running: set[int | None] = set()
        self.taken: deque[Job] = deque()
        self.ended: list[tuple[Job, Status, bool, asyncio.Future[None]]] = []
        self.finishing: asyncio.Task[None] | None = None

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        """Return a job that was taken before, or take as many as there are free slots."""
        if not self.taken:
            rows = await self.connector.execute_query_all_async(
                query=FETCH,
                slots=self.concurrency - len(self.running),
                queues=queues,
                worker_id=worker_id,
            )
            self.taken.extend(map(Job.from_row, rows))
        if not self.taken:
            return None
        job = self.taken.popleft()
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
            try:
                await self.connector.execute_query_async(
                    FINISH,
                    ids=[job.id for job, *_ in batch],
                    statuses=[status.value for _, status, *_ in batch],
                    deleted=[delete for _, _, delete, _ in batch],
                )
                results: list[Any] = [None] * len(batch)
            except Exception:  # noqa: BLE001, whatever it is, one that cannot be finished fails alone
                finish = super().finish_job
                calls = (finish(job, status, delete) for job, status, delete, _ in batch)
                results = await asyncio.gather(*calls, return_exceptions=True)
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
        if ids := [job.id for job in self.taken]:
            self.taken.clear()
            await self.connector.execute_query_async(HAND_BACK, ids=ids)
        await super().unregister_worker(worker_id)
