# Django sets the attributes that are only annotated below.
# pyright: reportUninitializedInstanceVariable=false

from datetime import datetime, timedelta
from math import ceil
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models.functions import Collate, Upper
from django.utils import timezone

from .contacts_csv import match_columns

if TYPE_CHECKING:
    from django.db.models.fields.related_descriptors import RelatedManager


def search_key(field: str) -> Collate:
    """Return what searches use: the field in upper case, sorted by code points."""
    return Collate(Upper(field), "C")


SEARCHED_FIELDS = ("email", "name", "company")


class Contact(models.Model):
    """A person, identified by the e-mail address."""

    email = models.EmailField(unique=True)
    name = models.CharField(max_length=200, blank=True)
    company = models.CharField(max_length=200, blank=True)
    phone = models.CharField(max_length=50, blank=True)

    class Meta:
        indexes = [
            models.Index(search_key(field), name=f"contacts_by_{field}")
            for field in SEARCHED_FIELDS
        ]

    def __str__(self) -> str:
        return self.email


class State(models.TextChoices):
    """What an import is doing, or how it ended."""

    SCHEDULED = "scheduled", "Scheduled"
    WAITING = "waiting", "Waiting for a worker"
    RUNNING = "running", "Importing"
    RETRYING = "retrying", "Failed, but will be tried again"
    STOPPING = "stopping", "Stopping"
    DONE = "done", "Done"
    CANCELLED = "cancelled", "Cancelled"
    FAILED = "failed", "Failed"


ENDED = (State.DONE, State.CANCELLED, State.FAILED)


class ContactImport(models.Model):
    """A CSV file that is being imported, and how far the import has come."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    # No constraint in the database, because the queue deletes old jobs.
    job = models.ForeignKey(
        "jobs.QueuedJob",
        null=True,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        related_name="+",
    )
    filename = models.CharField(max_length=255)
    digest = models.BinaryField(
        max_length=32, null=True, help_text="The file's SHA-256 while its text is kept."
    )
    columns = models.JSONField(help_text="Their names in the file's header.")
    # During a deployment, the old version still adds imports without it.
    delimiter = models.CharField(max_length=1, db_default=",")
    length = models.PositiveBigIntegerField(help_text="Characters in the file.")
    cursor = models.PositiveBigIntegerField(help_text="Characters processed.")
    line = models.PositiveBigIntegerField(help_text="Lines processed.")
    imported = models.PositiveBigIntegerField(default=0, help_text="Good rows.")
    rejected = models.PositiveBigIntegerField(default=0, help_text="Bad rows.")
    reason = models.TextField(blank=True, help_text="Why it stopped.")
    outcome = models.CharField(
        max_length=10,
        blank=True,
        choices=[(State.CANCELLED, "Cancelled"), (State.FAILED, "Failed")],
        db_default="",
        help_text="How it stopped. The job says so too, but is pruned earlier.",
    )
    # Later if its owner has resumed it: lists begin with what was started last.
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(
        null=True, blank=True, help_text="When a worker started or resumed it."
    )
    started_line = models.PositiveBigIntegerField(
        default=0, help_text="Lines processed before that."
    )
    finished_at = models.DateTimeField(null=True, blank=True)
    summary_sent_at = models.DateTimeField(null=True, blank=True)

    # Django adds these; type checkers do not know that without a plugin.
    job_id: int | None
    pieces: "RelatedManager[ImportPiece]"
    rejected_rows: "RelatedManager[RejectedRow]"

    class Meta:
        indexes = [
            models.Index(fields=["owner", "-created_at"], name="imports_of_owner")
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "digest"], name="unique_file_of_owner"
            )
        ]

    def __str__(self) -> str:
        return self.filename

    @property
    def state(self) -> State:
        """What it is doing, or how it ended; its job says so, unless that was pruned.

        A state stored here would stay `running` when a worker is killed.
        """
        if self.finished_at:
            return State(self.outcome or State.DONE)
        if not self.job:
            return State(self.outcome or State.FAILED)
        match self.job.status:
            case "todo" if not self.due_at:
                return State.WAITING
            case "todo":
                return State.RETRYING if self.job.attempts else State.SCHEDULED
            case "doing":
                return State.STOPPING if self.job.abort_requested else State.RUNNING
            case "cancelled" | "aborted":
                return State.CANCELLED
        # A job that was asked to stop fails if its worker is killed first.
        return State.CANCELLED if self.job.abort_requested else State.FAILED

    @property
    def is_active(self) -> bool:
        """Whether a worker will still change it."""
        return self.state not in ENDED

    @property
    def has_progress(self) -> bool:
        """Whether a worker has started it, and has not ended it."""
        return self.is_active and self.state not in (State.SCHEDULED, State.WAITING)

    @property
    def has_rows(self) -> bool:
        """Whether it has got as far as a row."""
        return bool(self.imported or self.rejected)

    @property
    def can_resume(self) -> bool:
        """Whether it stopped before the end, and its text is still there."""
        return self.digest is not None and not self.is_active

    @property
    def due_at(self) -> datetime | None:
        """When its waiting job is due, if that is in the future."""
        if not self.job or self.job.status != "todo":
            return None
        due = self.job.scheduled_at
        return due if due and due > timezone.now() else None

    @property
    def unused_columns(self) -> list[str]:
        """The names of the columns that are not imported."""
        fields = match_columns(self.columns)
        columns = zip(self.columns, fields, strict=True)
        return [name for name, field in columns if name.strip() and not field]

    @property
    def percent(self) -> int:
        """How much of the file has been processed, from 0 to 100."""
        return self.cursor * 100 // self.length

    @property
    def rate(self) -> int:
        """Lines per second since a worker started or resumed it; 0 before that."""
        if not self.started_at:
            return 0
        time = (self.finished_at or timezone.now()) - self.started_at
        return int((self.line - self.started_line) / max(time.total_seconds(), 0.001))

    @property
    def time_left(self) -> timedelta | None:
        """How much longer it will take at this rate, in whole seconds."""
        if not self.rate:
            return None
        lines_left = (self.length - self.cursor) * self.line / self.cursor
        return timedelta(seconds=ceil(lines_left / self.rate))


class ImportPiece(models.Model):
    """A piece of an import's text, in a table of its own so that lists do not load it.

    It is in the database because web and worker may run on different hosts.
    """

    contact_import = models.ForeignKey(
        ContactImport, on_delete=models.CASCADE, related_name="pieces"
    )
    number = models.PositiveIntegerField()
    # Bytes, which PostgreSQL does not check again.
    content = models.BinaryField()

    contact_import_id: int

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["contact_import", "number"], name="unique_piece"
            )
        ]

    def __str__(self) -> str:
        return f"{self.number} of import {self.contact_import_id}"


class RejectedRow(models.Model):
    """A row of an import that did not become a contact."""

    contact_import = models.ForeignKey(
        ContactImport,
        on_delete=models.CASCADE,
        related_name="rejected_rows",
        # The constraint below has an index already.
        db_index=False,
    )
    line = models.PositiveBigIntegerField(help_text="Where it begins; the header is 1.")
    reason = models.TextField()
    values = models.JSONField(help_text="Its values, as far as they can be read.")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["contact_import", "line"], name="unique_rejected_line"
            )
        ]

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"
