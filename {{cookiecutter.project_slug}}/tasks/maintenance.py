"""The queue's upkeep, done by the queue itself.

A worker without any periodic task does not notice that it lost its database, so
something periodic always stays here.
"""

import logging

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from jobs import stats
from jobs.models import JobFailure, QueueSample
from jobs.retry import JobStalled

from . import app

logger = logging.getLogger(__name__)

# By id, which is by age: it reads old jobs, and one batch of young ones.
PRUNE = """
WITH batch AS MATERIALIZED (
    SELECT job.id, event.first, event.last
    FROM (
        SELECT id FROM procrastinate_jobs WHERE id > %(after)s ORDER BY id LIMIT 1000
    ) job
    CROSS JOIN LATERAL (
        SELECT min(at) AS first, max(at) AS last
        FROM procrastinate_events WHERE job_id = job.id AND type <> 'scheduled'
    ) event
), pruned AS (
    DELETE FROM procrastinate_jobs job USING batch
    WHERE job.id = batch.id AND status NOT IN ('todo', 'doing')
        AND batch.last < %(before)s
)
SELECT max(id) FROM batch HAVING min(first) < %(before)s
"""

# A worker's row is deleted when it stops, and each job that names it is written again.
RELEASE = """
UPDATE procrastinate_jobs SET worker_id = NULL
WHERE worker_id IN (SELECT id FROM procrastinate_workers)
    AND status NOT IN ('todo', 'doing')
    AND id < (SELECT max(id) FROM procrastinate_jobs) - 1000
"""


# The worker runs no middleware for a job whose task it does not know.
EXPLAIN = """
INSERT INTO jobs_jobfailure (job_id, attempt, exception, message, traceback, host, at)
SELECT id, attempts, 'TaskNotFound',
    'The worker did not know this task, or could not keep what it raised.', '', '', now()
FROM procrastinate_jobs job WHERE status = 'failed'
    AND NOT EXISTS (SELECT FROM jobs_jobfailure WHERE job_id = job.id)
"""


# Cron with seconds, which come last.
@app.periodic(cron="* * * * * */30")
@app.task(
    name="maintenance.rescue_stalled_jobs",
    queueing_lock="maintenance.rescue_stalled_jobs",
    priority=100,
)
def rescue_stalled_jobs(timestamp: int) -> None:
    """Give the jobs of dead workers back, or fail those that must not run again."""
    for job in stats.stalled():
        task = app.tasks.get(job.task_name)
        retry = task and task.get_retry_exception(
            exception=JobStalled(), job=job.procrastinate_job
        )
        status, due = "failed", job.scheduled_at
        if job.abort_requested:
            status = "aborted"
        # A retry would collide with the job that may wait under the same lock.
        elif retry and not job.queueing_lock:
            status, due = "todo", retry.retry_decision.retry_at
        with transaction.atomic():
            # In one statement with the condition: somebody else may have rescued it,
            # and it may run again.
            same_run = stats.stalled().filter(pk=job.pk, attempts=job.attempts)
            if same_run.update(
                status=status,
                attempts=F("attempts") + 1,
                scheduled_at=due,
                abort_requested=False,
                worker=None,
            ):
                JobFailure.objects.create(
                    job=job,
                    attempt=job.attempts + 1,
                    exception=JobStalled.__qualname__,
                    message=f"Its worker died; the job is {status} now.",
                )


@app.periodic(cron="* * * * *")
@app.task(name="maintenance.watch", queueing_lock="maintenance.watch", priority=100)
def watch(timestamp: int) -> None:
    """Store a sample of each queue, and log what is wrong as errors."""
    with connection.cursor() as cursor:
        cursor.execute(EXPLAIN)
        cursor.execute(RELEASE)
    now = stats.now()
    QueueSample.objects.bulk_create(
        (
            QueueSample(
                minute=timezone.now().replace(second=0, microsecond=0),
                queue=queue.name,
                waiting=queue.waiting,
                running=queue.running,
                wait=queue.wait,
            )
            for queue in now.queues
        ),
        ignore_conflicts=True,
    )
    for problem in now.problems:
        logger.error(problem)


@app.periodic(cron="30 3 * * *")
@app.task(name="maintenance.prune", queueing_lock="maintenance.prune")
def prune(timestamp: int) -> None:
    """Delete what ended long ago, in batches, so that no lock is held for long."""
    before = timezone.now() - settings.JOBS_KEPT
    after: int | None = 0
    with connection.cursor() as cursor:
        while after is not None:
            cursor.execute(PRUNE, {"after": after, "before": before})
            after = (cursor.fetchone() or (None,))[0]
    JobFailure.objects.filter(at__lt=before).delete()
    QueueSample.objects.filter(minute__lt=timezone.now() - stats.DAY).delete()
