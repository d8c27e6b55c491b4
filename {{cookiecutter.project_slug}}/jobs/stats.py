"""The state of the queues: the one source for page, metrics, health and alerts."""

from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import connection
from django.db.models import Exists, OuterRef, Q, QuerySet, Sum
from django.db.models.functions import Now
from django.utils import timezone
from procrastinate.contrib.django.models import (
    ProcrastinatePeriodicDefer,
    ProcrastinateWorker,
)

from . import bridge, search, upstream
from .models import JobFailure, PausedQueue, QueuedJob, QueueSample, WorkerInfo

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)

# A heartbeat comes every 10 seconds: a worker that missed two of them is dead.
ALIVE = Q(last_heartbeat__gt=Now() - timedelta(seconds=20))

# The oldest waiting job has the lowest id, so only its events are read.
QUEUES = """
SELECT name, waiting, running, scheduled, coalesce(greatest(0, extract(epoch FROM
    now() - least(due, (SELECT max(at) FROM procrastinate_events
        WHERE job_id = first AND type <> 'scheduled'))))::float, 0)
FROM (
    SELECT queue_name AS name,
        count(*) FILTER (WHERE status = 'todo'
            AND (scheduled_at IS NULL OR scheduled_at <= now())) AS waiting,
        count(*) FILTER (WHERE status = 'doing') AS running,
        count(*) FILTER (WHERE status = 'todo' AND scheduled_at > now()) AS scheduled,
        min(scheduled_at) FILTER (WHERE status = 'todo' AND scheduled_at <= now()) AS due,
        min(id) FILTER (WHERE status = 'todo' AND scheduled_at IS NULL) AS first
    FROM procrastinate_jobs WHERE status IN ('todo', 'doing') GROUP BY queue_name
) queue
"""

# Jobs that have run for over a minute, and over ten times as long as 95 of their task's
# last hundred jobs. Only the newest jobs are read: there is no index by task.
SLOW_JOBS = """
SELECT job.id, CASE WHEN task_name LIKE 'django.%%' THEN args ->> 'task' ELSE task_name END,
    extract(epoch FROM now() - started.at)::float
FROM procrastinate_jobs job
CROSS JOIN LATERAL (
    SELECT max(at) AS at FROM procrastinate_events
    WHERE job_id = job.id AND type = 'started'
) started
CROSS JOIN LATERAL (
    SELECT percentile_cont(0.95) WITHIN GROUP (ORDER BY ended.at - begun.at) AS long
    FROM (
        SELECT id FROM procrastinate_jobs
        WHERE task_name = job.task_name AND status = 'succeeded'
            AND args ->> 'task' IS NOT DISTINCT FROM job.args ->> 'task'
            AND id > (SELECT max(id) FROM procrastinate_jobs) - 100000
        ORDER BY id DESC LIMIT 100
    ) recent
    JOIN procrastinate_events begun ON begun.job_id = recent.id AND begun.type = 'started'
    JOIN procrastinate_events ended ON ended.job_id = recent.id AND ended.type = 'succeeded'
) usual
WHERE job.status = 'doing' AND started.at < now() - interval '1 minute'
    AND job.task_name <> ALL(%s)
    AND now() - started.at > 10 * usual.long
ORDER BY job.id LIMIT 10
"""

# What ended between two events, by queue. Maintenance that succeeds is not counted.
ENDED = """
SELECT queue_name,
    count(*) FILTER (WHERE type = 'succeeded' AND task_name NOT LIKE 'maintenance.%%'),
    count(*) FILTER (WHERE type = 'failed')
FROM procrastinate_events event JOIN procrastinate_jobs job ON job.id = job_id
WHERE event.id > %s AND event.id <= %s AND type IN ('succeeded', 'failed')
GROUP BY queue_name
"""

# Jobs that failed for good, by queue. Only the newest are counted, to be quick.
FAILED = """
SELECT queue_name, count(*) FILTER (WHERE at > now() - interval '1 hour'), count(*)
FROM (
    SELECT id, queue_name FROM procrastinate_jobs WHERE status = 'failed'
    ORDER BY id DESC LIMIT 10000
) job
CROSS JOIN LATERAL (
    SELECT max(at) AS at FROM procrastinate_events
    WHERE job_id = job.id AND type <> 'scheduled'
) ended
WHERE at > now() - interval '1 day' GROUP BY queue_name
"""

LAST_DAY = """
SELECT queue, 143 - floor(extract(epoch FROM now() - minute) / 600)::int AS x,
    max(waiting), max(wait), sum(succeeded)::int, sum(failed)::int
FROM jobs_queuesample WHERE minute > now() - interval '1 day' AND minute <= now()
GROUP BY queue, x ORDER BY queue, x
"""


@dataclass(frozen=True)
class Queue:
    """A queue now; ``wait`` is how long its oldest due job has waited, in seconds."""

    name: str
    waiting: int = 0
    running: int = 0
    scheduled: int = 0
    wait: float = 0
    pause: PausedQueue | None = None

    @property
    def paused(self) -> bool:
        """Whether workers take no jobs from it."""
        return self.pause is not None

    @property
    def limit(self) -> float:
        """How long a job may wait here, in seconds."""
        return settings.JOBS_MAX_WAIT.get(self.name, settings.JOBS_MAX_WAIT["default"])

    @property
    def late(self) -> bool:
        """Whether a job has waited too long. In a paused queue, it is meant to wait."""
        return self.wait > self.limit and not self.paused

    @property
    def waited(self) -> timedelta:
        """``wait`` in whole seconds, to be shown."""
        return timedelta(seconds=round(self.wait))


@dataclass(frozen=True)
class Stats:
    """All queues now, the workers that are alive, and what went wrong."""

    queues: list[Queue]
    workers: int
    stalled: int
    failures: int
    slow: list[tuple[int, str, float]]

    @property
    def healthy(self) -> bool:
        """Whether a worker is alive and no queue is late."""
        return self.workers > 0 and not any(queue.late for queue in self.queues)

    @property
    def problems(self) -> list[str]:
        """What somebody should look at, in sentences."""
        return list(self.alerts.values())

    @property
    def alerts(self) -> dict[str, str]:
        """The problems by their keys, which stay the same while a problem lasts."""
        found = {
            f"late {queue.name}": f"Queue {queue.name}: a job has waited for"
            f" {queue.waited}"
            for queue in self.queues
            if queue.late
        }
        found |= {
            f"paused {queue.name}": f"Queue {queue.name} has been paused for over a day,"
            f" by {queue.pause.who}: {queue.pause.why}"
            for queue in self.queues
            if queue.pause and queue.pause.since < timezone.now() - DAY
        }
        if not self.workers:
            found["workers"] = "No worker is alive"
        if self.stalled:
            jobs = "1 job is" if self.stalled == 1 else f"{self.stalled} jobs are"
            found["stalled"] = f"{jobs} stuck on dead workers"
        found |= {
            f"slow {pk}": f"Job {name}[{pk}] has run for"
            f" {timedelta(seconds=round(seconds))}, over ten times as long as usual"
            for pk, name, seconds in self.slow
        }
        if self.failures > settings.JOBS_MAX_FAILURES:
            attempts = f"{self.failures} attempt{'s' if self.failures > 1 else ''}"
            found["failures"] = f"{attempts} failed in the last hour"
        return found


def now() -> Stats:
    """Read the state of all queues, in six queries."""
    with connection.cursor() as cursor:
        cursor.execute(QUEUES)
        busy = {row[0]: Queue(*row) for row in cursor.fetchall()}
        # An atomic job's events have one time, so nobody knows how long it usually runs.
        atomic = [job.name for job in bridge.declared.values() if job.atomic]
        cursor.execute(SLOW_JOBS, [atomic])
        slow = cursor.fetchall()
    pauses = {pause.queue: pause for pause in PausedQueue.objects.all()}
    declared = {job.queue for job in bridge.declared.values()}
    return Stats(
        queues=[
            replace(busy.get(name, Queue(name)), pause=pauses.get(name))
            for name in sorted(declared | busy.keys() | pauses.keys())
        ],
        workers=workers_alive(),
        stalled=stalled().count(),
        failures=JobFailure.objects.filter(at__gt=timezone.now() - HOUR).count(),
        slow=slow,
    )


def workers_alive(host: str | None = None) -> int:
    """Return how many workers are alive.

    Args:
        host: Count only workers on this host.
    """
    workers = ProcrastinateWorker.objects.filter(ALIVE)
    if host is not None:
        # Procrastinate's own worker does not say where it is: it counts everywhere.
        elsewhere = WorkerInfo.objects.exclude(host=host)
        workers = workers.exclude(pk__in=elsewhere.values("worker_id"))
    return workers.count()


def stalled() -> QuerySet[QueuedJob]:
    """Return the running jobs whose worker has been silent for 30 seconds."""
    alive = ProcrastinateWorker.objects.filter(
        pk=OuterRef("worker"), last_heartbeat__gt=Now() - timedelta(seconds=30)
    )
    return QueuedJob.objects.filter(~Exists(alive), status="doing")


def ended_since_sample() -> tuple[int, dict[str, tuple[int, int]]]:
    """Count what ended since the last sample.

    A sample has the id of its last event, because events have no index by time.

    Returns:
        The last event, and by queue how many jobs succeeded and failed.
    """
    samples = QueueSample.objects.filter(event__isnull=False).order_by("-minute")
    start = samples.values_list("event", flat=True).first()
    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(max(id), 0) FROM procrastinate_events")
        ((end,),) = cursor.fetchall()
        # Few enough to be quick, even if the last sample is old.
        start = end if start is None else max(start, end - 500_000)
        cursor.execute(ENDED, [start, end])
        return end, {queue: (done, failed) for queue, done, failed in cursor.fetchall()}


@dataclass(frozen=True)
class Worker:
    """A registered worker, and what it runs."""

    id: int
    heartbeat: datetime
    alive: bool
    info: WorkerInfo | None
    running: list[QueuedJob]


def registered_workers() -> list[Worker]:
    """Return the workers; each with at most 20 of the jobs that it runs."""
    rows = ProcrastinateWorker.objects.annotate(alive=ALIVE).order_by("pk")[:100]
    infos = WorkerInfo.objects.in_bulk([row.pk for row in rows])
    running: defaultdict[int | None, list[QueuedJob]] = defaultdict(list)
    jobs = search.without_arguments(QueuedJob.objects.filter(status="doing"))
    for job in jobs.order_by("pk")[:1000]:
        running[job.worker_id].append(job)
    return [
        Worker(
            row.pk,
            row.last_heartbeat,
            row.alive,
            infos.get(row.pk),
            running[row.pk][:20],
        )
        for row in rows
    ]


@dataclass(frozen=True)
class Periodic:
    """A periodic task: when it runs, and the last job of it."""

    task: str
    cron: str
    next: datetime | None
    last: datetime | None
    job: QueuedJob | None


def periodic_tasks(workers: list[Worker]) -> list[Periodic]:
    """Return the periodic tasks of the workers that are alive."""
    lines = {
        task: cron
        for worker in workers
        if worker.alive and worker.info
        for task, cron in worker.info.periodic.items()
    }
    defers = ProcrastinatePeriodicDefer.objects.filter(task_name__in=lines)
    columns = defers.values_list("task_name", "defer_timestamp", "job")
    last = {task: (at, job) for task, at, job in columns.order_by("defer_timestamp")}
    jobs = QueuedJob.objects.defer("args").in_bulk([job for _, job in last.values()])
    found = []
    for task, cron in sorted(lines.items()):
        at, job = last.get(task, (None, None))
        moment = datetime.fromtimestamp(at, UTC) if at else None
        found.append(
            Periodic(task, cron, upstream.next_run(cron), moment, jobs.get(job or 0))
        )
    return found


@dataclass
class Ended:
    """How many jobs of a queue ended in the last hour and in the last day."""

    succeeded_hour: int = 0
    succeeded_day: int = 0
    failed_hour: int = 0
    failed_day: int = 0


def ended() -> defaultdict[str, Ended]:
    """Return how many jobs succeeded or failed, by queue, without those run again."""
    _, since_sample = ended_since_sample()
    found: defaultdict[str, Ended] = defaultdict(Ended)
    samples = QueueSample.objects.filter(minute__gt=Now() - DAY).values_list("queue")
    for queue, hour, day in samples.annotate(
        hour=Sum("succeeded", default=0, filter=Q(minute__gt=Now() - HOUR)),
        day=Sum("succeeded"),
    ):
        found[queue].succeeded_hour, found[queue].succeeded_day = hour, day
    for queue, (succeeded, _) in since_sample.items():
        found[queue].succeeded_hour += succeeded
        found[queue].succeeded_day += succeeded
    with connection.cursor() as cursor:
        cursor.execute(FAILED)
        for queue, hour, day in cursor.fetchall():
            found[queue].failed_hour, found[queue].failed_day = hour, day
    return found


def last_day() -> dict[str, list[tuple[int, int, float, int, int]]]:
    """Return the worst figures of each ten minutes of the last day, by queue.

    Returns:
        The position from 0 (a day ago) to 143 (now), how many jobs waited, for how many
        seconds the oldest of them had waited, and how many succeeded and failed.
    """
    bars: dict[str, list[tuple[int, int, float, int, int]]] = {}
    with connection.cursor() as cursor:
        cursor.execute(LAST_DAY)
        for queue, *bar in cursor.fetchall():
            bars.setdefault(queue, []).append(tuple(bar))
    return bars
