"""What the queue's own tables lack: failures, pauses, results, statistics."""

from datetime import datetime

from django.db import models
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob


class QueuedJob(ProcrastinateJob):
    """A job in the queue's own table, with a permission for each action."""

    # Django adds it, which type checkers without a plugin do not know.
    worker_id: int | None  # pyright: ignore[reportUninitializedInstanceVariable]

    # Set by `search.add_times`.
    deferred: datetime | None = None
    started: datetime | None = None
    ended: datetime | None = None
    duration: str = ""
    # Set by `search.add_errors`.
    error: str = ""

    class Meta:  # pyright: ignore[reportIncompatibleVariableOverride]
        proxy = True
        verbose_name = "job"
        default_permissions = ("view",)
        permissions = [
            ("retry_job", "Can run failed jobs again"),
            ("cancel_job", "Can cancel waiting jobs"),
            ("abort_job", "Can ask running jobs to stop"),
            ("run_job_now", "Can run scheduled jobs now"),
            ("view_arguments", "Can view the arguments of jobs"),
        ]

    def __str__(self) -> str:
        return f"{self.task_name}[{self.pk}]"

    @property
    def name(self) -> str:
        """The task's name; that of a task of `django.tasks` is its path."""
        if not self.task_name.startswith("django."):
            return str(self.task_name)
        # Set by `search.without_arguments`.
        return getattr(self, "path", None) or str(self.args.get("task"))

    @property
    def state(self) -> str:
        """A key of `search.STATES`."""
        if self.status == "todo":
            due = self.scheduled_at
            return "scheduled" if due and due > timezone.now() else "waiting"
        status = str(self.status)
        return {"doing": "running", "aborted": "stopped"}.get(status, status)


class JobFailure(models.Model):
    """A failed attempt. It may outlive its job, which SQL deletes."""

    job = models.ForeignKey(
        QueuedJob, models.DO_NOTHING, related_name="failures", db_constraint=False
    )
    attempt = models.PositiveIntegerField()
    # With a default in the database: workers without this field may still run.
    module = models.CharField(max_length=200, db_default="")
    exception = models.CharField(max_length=200)
    message = models.TextField()
    traceback = models.TextField()
    host = models.CharField(max_length=255)
    duration = models.FloatField("seconds", null=True)
    at = models.DateTimeField(default=timezone.now, db_index=True)

    # Django adds it, which type checkers without a plugin do not know.
    job_id: int  # pyright: ignore[reportUninitializedInstanceVariable]

    class Meta:
        default_permissions = ("view",)
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"attempt {self.attempt}: {self.exception}"


class Interruption(models.Model):
    """How often a job was cut short because its worker ended."""

    job_id = models.BigIntegerField(primary_key=True)
    give_backs = models.PositiveIntegerField(
        default=0, help_text="By workers that were stopped."
    )
    deaths = models.PositiveIntegerField(default=0, help_text="By workers that died.")

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"job {self.job_id}: {self.give_backs} give-backs, {self.deaths} deaths"


class PausedQueue(models.Model):
    """A queue from which workers take no jobs."""

    queue = models.CharField(max_length=128, primary_key=True)
    who = models.CharField(max_length=200)
    why = models.CharField(max_length=200)
    since = models.DateTimeField(default=timezone.now)

    class Meta:
        default_permissions = ()
        permissions = [("pause_queue", "Can pause and resume queues")]

    def __str__(self) -> str:
        return f"Queue {self.queue} was paused by {self.who}: {self.why}"


class Alert(models.Model):
    """A problem, and what people were told about it."""

    problem = models.CharField(max_length=200, primary_key=True)
    text = models.TextField()
    active = models.BooleanField(default=True, help_text="Whether it is not over.")
    announced = models.BooleanField(
        default=False, help_text="Whether people know of it, but not that it is over."
    )
    told_at = models.DateTimeField(
        null=True, help_text="When people were last told that it is not over."
    )
    claimed_at = models.DateTimeField(
        null=True, help_text="Since when a worker is about to tell people."
    )

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.text


class WorkerInfo(models.Model):
    """What a worker stores about itself at its start, except its heartbeat."""

    worker_id = models.BigIntegerField(primary_key=True)
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    started_at = models.DateTimeField()
    queues = models.JSONField(help_text="Those that it serves; none stands for all.")
    tasks = models.JSONField(help_text="The names of its tasks.")
    periodic = models.JSONField(help_text="The cron lines of its periodic tasks.")

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"worker {self.worker_id} on {self.host}"


class StoredResult(models.Model):
    """What the job of a Django task returned, and which workers ran it."""

    job_id = models.BigIntegerField(primary_key=True)
    worker_ids = models.JSONField(help_text="One for each attempt.")
    return_value = models.JSONField(null=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"result of job {self.job_id}"


class QueueSample(models.Model):
    """How full a queue was in one minute, and what ended since the sample before."""

    minute = models.DateTimeField()
    queue = models.CharField(max_length=128)
    waiting = models.PositiveIntegerField()
    running = models.PositiveIntegerField()
    wait = models.FloatField("seconds that the oldest due job has waited")
    # The database's defaults are for workers that are older than the columns.
    succeeded = models.PositiveIntegerField(default=0, db_default=0)
    failed = models.PositiveIntegerField(default=0, db_default=0)
    event = models.BigIntegerField(
        null=True, help_text="The last event that was counted."
    )

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(
                fields=["minute", "queue"], name="one_sample_a_minute"
            )
        ]

    def __str__(self) -> str:
        return f"{self.queue} at {self.minute}"
