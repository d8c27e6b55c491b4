from django.conf import settings
from django.db import models
from procrastinate.contrib.django.models import ProcrastinateJob


class Contact(models.Model):
    """A person, known by the e-mail address."""

    email = models.EmailField(unique=True)
    name = models.CharField(max_length=200, blank=True)
    company = models.CharField(max_length=200, blank=True)
    phone = models.CharField(max_length=50, blank=True)

    def __str__(self) -> str:
        return self.email


class ContactImport(models.Model):
    """A CSV file on its way into the contacts, and how far it is."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    # The queue prunes its jobs by itself, which a constraint would forbid.
    job = models.ForeignKey(
        ProcrastinateJob,
        null=True,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        related_name="+",
    )
    filename = models.CharField(max_length=255)
    columns = models.JSONField(help_text="The header: a field of Contact, or empty.")
    length = models.PositiveBigIntegerField(help_text="Characters in the file.")
    cursor = models.PositiveBigIntegerField(help_text="Characters dealt with.")
    line = models.PositiveBigIntegerField(help_text="Lines dealt with.")
    imported = models.PositiveBigIntegerField(default=0, help_text="Good rows.")
    rejected = models.PositiveBigIntegerField(default=0, help_text="Bad rows.")
    reason = models.TextField(blank=True, help_text="Why it stopped.")
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    summary_sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["owner", "-created_at"], name="imports_of_owner")
        ]

    def __str__(self) -> str:
        return self.filename

    @property
    def state(self) -> str:
        """`waiting`, `running`, `done` or `failed`: until it is done, the queue knows.

        A state stored here would stay `running` when a worker is killed.
        """
        if self.finished_at:
            return "done"
        status = self.job.status if self.job else ""
        return {"todo": "waiting", "doing": "running"}.get(status, "failed")

    @property
    def is_active(self) -> bool:
        """Whether a worker will still change it."""
        return self.state in ("waiting", "running")

    @property
    def percent(self) -> int:
        """How much of the file is dealt with, from 0 to 100."""
        return self.cursor * 100 // self.length


class ImportPiece(models.Model):
    """A piece of an import's text, apart from it so that no list loads it.

    In the database, because web and worker may run on different hosts.
    """

    contact_import = models.ForeignKey(
        ContactImport, on_delete=models.CASCADE, related_name="pieces"
    )
    number = models.PositiveIntegerField()
    # Bytes, because PostgreSQL's texts hold no NUL characters.
    content = models.BinaryField()

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
        ContactImport, on_delete=models.CASCADE, related_name="rejected_rows"
    )
    line = models.PositiveBigIntegerField(help_text="Where it begins; the header is 1.")
    reason = models.TextField()

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"
