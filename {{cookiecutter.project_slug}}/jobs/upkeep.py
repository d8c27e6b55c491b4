"""The queue's upkeep, in periodic tasks: rescue, samples, alerts and pruning.

A worker without a periodic task does not notice when it loses its database, so at least
one must always be registered.
"""

import logging
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import OperationalError, connection, transaction
from django.db.models import F, Max
from django.db.models.expressions import Combinable
from django.db.models.functions import Greatest, Now
from django.utils import timezone
from procrastinate import App

from . import alerts, stats, upstream
from .bridge import MAINTENANCE_QUEUE, hook
from .models import Interruption, JobFailure, QueuedJob, QueueSample
from .retry import JobStalled

logger = logging.getLogger(__name__)

SUSPECT_INTERVAL = timedelta(seconds=10)
"""Time between the starts of jobs that may have killed a worker."""
SUSPECTS_LOCK = "jobs:suspects"
"""The lock of such jobs, unless they have their own: they never run together."""
CERTAIN_DEATHS = 6
"""From here on, a death counts even if another job is as likely to be its cause."""

# Ids are in the order of age, so this reads the old jobs and one batch of newer ones.
PRUNE_BATCH = """
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

# Deleting a worker's row, when it stops, updates every job that references it.
CLEAR_WORKERS_OF_FINISHED_JOBS = """
UPDATE procrastinate_jobs SET worker_id = NULL
WHERE worker_id IN (SELECT id FROM procrastinate_workers)
    AND status NOT IN ('todo', 'doing')
    AND id < (SELECT max(id) FROM procrastinate_jobs) - 1000
"""

DELETE_DEAD_WORKERS = """
SET LOCAL lock_timeout = '500ms';
DELETE FROM procrastinate_workers WHERE id IN (
    SELECT id FROM procrastinate_workers worker
    WHERE last_heartbeat < now() - interval '30 seconds' AND NOT EXISTS (
        SELECT FROM procrastinate_jobs WHERE worker_id = worker.id AND status = 'doing'
    )
    FOR UPDATE SKIP LOCKED
)
"""

# Rows about jobs and workers that no longer exist.
DELETE_LEFTOVERS = """
DELETE FROM jobs_interruption kept
WHERE NOT EXISTS (SELECT FROM procrastinate_jobs WHERE id = kept.job_id);
DELETE FROM jobs_storedresult kept
WHERE NOT EXISTS (SELECT FROM procrastinate_jobs WHERE id = kept.job_id);
DELETE FROM jobs_workerinfo kept
WHERE NOT EXISTS (SELECT FROM procrastinate_workers WHERE id = kept.worker_id)
"""

# The worker runs no middleware for a job whose task it does not know.
RECORD_UNEXPLAINED_FAILURES = """
INSERT INTO jobs_jobfailure
    (job_id, attempt, module, exception, message, traceback, host, at)
SELECT id, attempts, 'procrastinate.exceptions', 'TaskNotFound',
    'The worker did not know this task, or could not store the error.', '', '', now()
FROM procrastinate_jobs job WHERE status = 'failed'
    AND NOT EXISTS (SELECT FROM jobs_jobfailure WHERE job_id = job.id)
"""


def add_to(app: App) -> None:
    """Register the upkeep with the worker's app, as periodic tasks."""

    def periodic(cron: str, name: str, body: Callable[[], None], priority: int) -> None:
        def task(timestamp: int) -> None:
            body()

        register: Callable[..., Any] = app.task
        options = {"queue": MAINTENANCE_QUEUE, "queueing_lock": name}
        # Waiting jobs have these names, so they must not change.
        app.periodic(cron=cron)(register(name=name, priority=priority, **options)(task))

    # The sixth column is for seconds.
    periodic(
        "* * * * * */30",
        "maintenance.rescue_stalled_jobs",
        lambda: rescue_stalled_jobs(app),
        priority=100,
    )
    periodic("* * * * *", "maintenance.watch", watch, priority=100)
    periodic("30 3 * * *", "maintenance.prune", prune, priority=0)


def rescue_stalled_jobs(app: App) -> None:
    """Put the jobs of dead workers back into their queues, or fail them.

    A job fails if its task must not be retried. A third death counts against a job only
    if no other of its worker's jobs had seen a death before.

    Args:
        app: The worker's app, which knows how each task is retried.
    """
    stalled = list(stats.stalled())
    interruptions = Interruption.objects.in_bulk([job.pk for job in stalled])
    with_deaths = {pk for pk, kept in interruptions.items() if kept.deaths}
    suspects = Counter(job.worker_id for job in stalled if job.pk in with_deaths)
    for job in stalled:
        task = app.tasks.get(job.task_name)
        interruption = interruptions.get(job.pk) or Interruption(pk=job.pk)
        interruption.deaths += 1
        deaths = interruption.deaths
        if suspects[job.worker_id] > 1 and deaths < CERTAIN_DEATHS:
            deaths = min(deaths, 2)
        retry = upstream.retry_decision(task, JobStalled(deaths), job)
        # By the database's clock: this host's may be wrong.
        due: datetime | Combinable | None
        status, due, lock = "failed", job.scheduled_at, job.lock
        if job.abort_requested:
            status = "aborted"
        # A retry would collide with a job waiting under the same queueing lock.
        elif retry and not job.queueing_lock:
            status, due = "todo", retry.retry_at or Now()
            if interruption.deaths > 1:
                due, lock = due_after_other_suspects(), lock or SUSPECTS_LOCK
        with transaction.atomic():
            # Another worker may have rescued the job, and it may be running again.
            same_run = stats.stalled().filter(pk=job.pk, attempts=job.attempts)
            # Its worker's session may still hold it, if the host has vanished. The
            # others do not wait for that.
            if not same_run.select_for_update(skip_locked=True):
                continue
            same_run.update(
                status=status,
                attempts=F("attempts") + 1,
                scheduled_at=due,
                lock=lock,
                abort_requested=False,
                worker=None,
            )
            interruption.save()
            JobFailure.objects.create(
                job=job,
                attempt=job.attempts + 1,
                module=JobStalled.__module__,
                exception=JobStalled.__qualname__,
                message=f"Its worker died; the job's status is now {status}.",
            )
        if announce_end := hook(task, "announce_end"):
            announce_end(job.pk)


def due_after_other_suspects() -> Combinable:
    """Return when a job may run again that was running when two workers died.

    Such jobs start one after another, and not beside those that run again at once, so
    that the next death shows which is the cause.
    """
    suspects = Interruption.objects.filter(deaths__gt=1).values("pk")
    others = QueuedJob.objects.filter(status__in=("todo", "doing"), pk__in=suspects)
    last = others.aggregate(last=Max("scheduled_at", default=Now()))["last"]
    return Greatest(Now(), last) + SUSPECT_INTERVAL


def delete_dead_workers() -> None:
    """Delete the rows of dead workers, but for those whose jobs are not rescued yet.

    If the session of a vanished host holds one of their jobs, they stay.
    """
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(DELETE_DEAD_WORKERS)
    except OperationalError as error:
        logger.warning("Dead workers stay in the database for now: %s", error)


def watch() -> None:
    """Store a sample of each queue, log each problem as an error, and tell people."""
    with connection.cursor() as cursor:
        cursor.execute(RECORD_UNEXPLAINED_FAILURES)
        cursor.execute(CLEAR_WORKERS_OF_FINISHED_JOBS)
    now = stats.now()
    event, ended = stats.ended_since_sample()
    queues = {name: stats.Queue(name) for name in ended}
    queues |= {queue.name: queue for queue in now.queues}
    QueueSample.objects.bulk_create(
        (
            QueueSample(
                minute=timezone.now().replace(second=0, microsecond=0),
                queue=queue.name,
                waiting=queue.waiting,
                running=queue.running,
                wait=queue.wait,
                succeeded=ended.get(queue.name, (0, 0))[0],
                failed=ended.get(queue.name, (0, 0))[1],
                event=event,
            )
            for queue in queues.values()
        ),
        ignore_conflicts=True,
    )
    for problem in now.problems:
        logger.error(problem)
    alerts.tell(now.alerts)


def prune() -> None:
    """Delete what ended long ago, in batches, so that no lock is held for long."""
    before = timezone.now() - settings.JOBS_KEPT
    after: int | None = 0
    with connection.cursor() as cursor:
        while after is not None:
            cursor.execute(PRUNE_BATCH, {"after": after, "before": before})
            after = (cursor.fetchone() or (None,))[0]
        cursor.execute(DELETE_LEFTOVERS)
    JobFailure.objects.filter(at__lt=before).delete()
    QueueSample.objects.filter(minute__lt=timezone.now() - stats.DAY).delete()
