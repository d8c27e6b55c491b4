"""The service layer: what the app does. Views, tasks and commands only call it."""

import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import BinaryIO

from django.core.exceptions import ValidationError
from django.core.mail import send_mail
from django.db import reset_queries, transaction
from django.db.models import QuerySet, Value
from django.db.models.functions import Coalesce, Concat, Upper
from django.template.defaultfilters import pluralize
from django.utils import timezone

from jobs.bridge import cancel_job
from users.models import User

from . import contacts_csv, stored_text, tasks
from .contacts_csv import RowReader
from .models import (
    SEARCHED_FIELDS,
    Contact,
    ContactImport,
    ImportPiece,
    RejectedRow,
    State,
    search_key,
)

CHUNK_ROWS = 500
MAX_REJECTED = 100_000
UPDATED_FIELDS = ("name", "company", "phone")
PAGE_ROWS = 50
SEARCH_ROWS = 1_000
SAMPLE_ROWS = 100_000

HIGHEST_CHARACTER = Value(chr(sys.maxunicode))
"""A prefix followed by this is the upper bound of a search for the prefix."""

TEXT_AGE = timedelta(days=7)
"""How long the text of an import that stopped is kept, so that it can be resumed."""
IMPORT_AGE = timedelta(days=30)
"""How long an import is kept after it ended."""


class AlreadyImporting(Exception):
    """The owner is importing the same file already, or has scheduled it."""


class TakenOver(Exception):
    """Another worker has taken over the import."""


@transaction.atomic
def start_import(
    *,
    owner: User,
    filename: str,
    file: BinaryIO,
    schedule_at: datetime | None = None,
) -> ContactImport:
    """Store a CSV file and defer its import, or resume the import of the same file.

    Args:
        owner: The only user who will see the import.
        filename: What to call the import on pages and in e-mails.
        file: Open for reading bytes; it stays open.
        schedule_at: When to start; None is at once.

    Raises:
        BadFile: The file cannot be imported at all; nothing is stored.
        AlreadyImporting: The owner is importing the same file, or has scheduled it.
    """
    file.seek(0)
    contact_import, is_new = ContactImport.objects.get_or_create(
        owner=owner,
        digest=hashlib.file_digest(file, "sha256").digest(),  # type: ignore[arg-type]
        defaults={
            "filename": filename,
            "columns": [],
            "length": 0,
            "cursor": 0,
            "line": 0,
        },
    )
    if is_new:
        stored_text.store(contact_import, file)
        rows = RowReader.after_header(stored_text.read(contact_import))
        contact_import.columns = rows.names
        contact_import.delimiter = rows.delimiter
        contact_import.line, contact_import.cursor = rows.line, rows.cursor
        contact_import.save()
        _defer_import(contact_import, schedule_at)
    elif not retry_import(import_id=contact_import.pk, schedule_at=schedule_at):
        raise AlreadyImporting
    return contact_import


def start_sample_import(*, owner: User) -> ContactImport:
    """Import invented contacts, to try an import without a file.

    Raises:
        AlreadyImporting: The owner is importing them already.
    """
    filename = f"{SAMPLE_ROWS:,} sample contacts.csv"
    file = contacts_csv.make_sample(rows=SAMPLE_ROWS)
    return start_import(owner=owner, filename=filename, file=file)


def cancel_import(*, import_id: int) -> None:
    """Take an import out of the queue, or ask its worker to stop after this chunk.

    What was imported stays. An import that has ended stays as it is.
    """
    contact_import = ContactImport.objects.get(pk=import_id)
    if contact_import.job_id:
        cancel_job(contact_import.job_id)
    # If the job is running, its worker records the outcome when it stops.
    cancelled = ContactImport.objects.filter(pk=import_id, job__status="cancelled")
    cancelled.update(outcome=State.CANCELLED)


@transaction.atomic
def retry_import(*, import_id: int, schedule_at: datetime | None = None) -> bool:
    """Resume an import that failed or was cancelled, where it stopped.

    Args:
        import_id: The `ContactImport`.
        schedule_at: When to resume; None is at once.

    Returns:
        False if it is waiting, running or done, or if its text is gone.
    """
    # Locked, so that of two calls at once the second sees the job of the first.
    ContactImport.objects.select_for_update().get(pk=import_id)
    contact_import = ContactImport.objects.select_related("job").get(pk=import_id)
    if not contact_import.can_resume:
        return False
    _defer_import(contact_import, schedule_at)
    return True


def import_contacts(*, import_id: int, should_stop: Callable[[], bool]) -> bool:
    """Import the remaining rows; after the last one, defer the summary.

    The cursor, the counts and the contacts change in one transaction for each chunk
    of rows: a killed import is resumed where it was, and no row counts twice. If too
    many rows are rejected, the import ends early, so that the table cannot overflow.

    Args:
        import_id: The `ContactImport`.
        should_stop: Asked between chunks.

    Returns:
        False if it was asked to stop, otherwise True.
    """
    contact_import = ContactImport.objects.get(pk=import_id)
    unfinished = ContactImport.objects.filter(pk=import_id, finished_at=None)
    unfinished.update(
        started_at=timezone.now(),
        started_line=contact_import.line,
        outcome="",
        reason="",
    )
    rows = RowReader(
        stored_text.read(contact_import),
        contact_import.columns,
        contact_import.delimiter,
        contact_import.line,
        contact_import.cursor,
    )
    problem = ""
    try:
        while contact_import.cursor < contact_import.length and not problem:
            if should_stop():
                # If the worker is shutting down instead, the next attempt clears this.
                unfinished.update(outcome=State.CANCELLED)
                return False
            _import_chunk(contact_import, rows)
            if contact_import.rejected > MAX_REJECTED:
                problem = (
                    f"More than {MAX_REJECTED:,} rows were rejected: nothing after line"
                    f" {contact_import.line} was imported."
                )
            # With DEBUG, Django keeps all queries: memory would grow with the file.
            reset_queries()
        _finish_import(contact_import, problem)
    except (TakenOver, ImportPiece.DoesNotExist):
        return True
    except Exception as error:
        unfinished.update(
            outcome=State.FAILED,
            reason=f"{type(error).__name__} after line {contact_import.line}",
        )
        raise
    return True


def send_summary(*, import_id: int) -> None:
    """Mail the result of an import to its owner: once, or twice if a worker dies."""
    contact_import = ContactImport.objects.select_related("owner").get(pk=import_id)
    if contact_import.summary_sent_at or not contact_import.owner.email:
        return
    imported, rejected = contact_import.imported, contact_import.rejected
    send_mail(
        subject=f"Contacts imported: {contact_import.filename}",
        message=(
            f"{imported} row{pluralize(imported, ' was,s were')} imported,"
            f" and {rejected} {pluralize(rejected, 'was,were')} rejected.\n"
            f"{contact_import.reason}"
        ),
        from_email=None,
        recipient_list=[contact_import.owner.email],
    )
    contact_import.summary_sent_at = timezone.now()
    contact_import.save(update_fields=["summary_sent_at"])


def remove_old_imports() -> None:
    """Remove imports that ended long ago; remove the text of stopped ones earlier.

    First, record how their jobs ended, because the queue may prune these soon.
    """
    ended = ContactImport.objects.exclude(job__status__in=["todo", "doing"])
    _record_outcomes(ended.filter(finished_at=None))
    now = timezone.now()
    ended = ended.annotate(
        last_change=Coalesce("finished_at", "started_at", "created_at")
    )
    ended.filter(last_change__lt=now - IMPORT_AGE).delete()
    old = ended.filter(last_change__lt=now - TEXT_AGE, digest__isnull=False)
    _remove_texts(old)


def find_contacts(*, search: str = "", after: str = "") -> Sequence[Contact]:
    """Return a page of contacts sorted by address, plus one if there is a next page.

    It is as fast with a million contacts as with ten: a page begins after an address
    instead of having a number, and a search reads only the first matches in each index.

    Args:
        search: The beginning of an address, a name or a company, in upper or lower
            case. At most `SEARCH_ROWS` of each are found.
        after: The last address of the previous page.
    """
    if not search:
        contacts = Contact.objects.filter(email__gt=after).order_by("email")
        return list(contacts[: PAGE_ROWS + 1])
    start = Upper(Value(search))
    end = Concat(start, HIGHEST_CHARACTER)
    found: dict[str, Contact] = {}
    for field in SEARCHED_FIELDS:
        # Sorted as the index is: otherwise PostgreSQL might read all contacts.
        contacts = Contact.objects.alias(key=search_key(field)).order_by("key")
        contacts = contacts.filter(key__gte=start, key__lt=end)
        found |= {contact.email: contact for contact in contacts[:SEARCH_ROWS]}
    emails = sorted(email for email in found if email > after)
    return [found[email] for email in emails[: PAGE_ROWS + 1]]


def rejected_csv(*, import_id: int) -> Iterator[str]:
    """Yield the lines of a CSV file with an import's rejected rows."""
    contact_import = ContactImport.objects.get(pk=import_id)
    header = (*contacts_csv.REJECTED_COLUMNS, *contact_import.columns)
    rows = chain([header], _rejected_rows(import_id))
    # Spreadsheets take it for Windows-1252 without this mark.
    yield "\N{BYTE ORDER MARK}"
    yield from contacts_csv.write_rows(rows, delimiter=contact_import.delimiter)


def _defer_import(contact_import: ContactImport, schedule_at: datetime | None) -> None:
    # In the caller's transaction: no worker sees the job before the file.
    job = tasks.import_contacts.configure(schedule_at=schedule_at)
    contact_import.job_id = job.defer(import_id=contact_import.pk)
    contact_import.created_at = timezone.now()
    contact_import.save(update_fields=["job", "created_at"])


@transaction.atomic
def _import_chunk(contact_import: ContactImport, rows: RowReader) -> None:
    contacts: list[Contact] = []
    rejected: list[RejectedRow] = []
    for row in rows.read_chunk(rows=CHUNK_ROWS):
        contact = Contact(**row.fields)
        # Lower case, because the address is the key.
        contact.email = contact.email.lower()
        if problem := row.problem or _find_problem(contact):
            rejected.append(
                RejectedRow(
                    contact_import=contact_import,
                    line=row.line,
                    reason=problem,
                    values=row.values,
                )
            )
        else:
            contacts.append(contact)
    changes = {
        "line": rows.line,
        "cursor": rows.cursor,
        "imported": contact_import.imported + len(contacts),
        "rejected": contact_import.rejected + len(rejected),
    }
    _advance(contact_import, **changes)
    _upsert_contacts(contacts)
    RejectedRow.objects.bulk_create(rejected)
    for name, value in changes.items():
        setattr(contact_import, name, value)


@transaction.atomic
def _finish_import(contact_import: ContactImport, problem: str) -> None:
    _advance(
        contact_import,
        finished_at=timezone.now(),
        digest=None,
        outcome=State.FAILED if problem else "",
        reason=problem,
    )
    contact_import.pieces.all().delete()
    tasks.send_summary.defer(import_id=contact_import.pk)


def _advance(contact_import: ContactImport, **changes: object) -> None:
    """Change and lock an import, unless another worker has changed it meanwhile.

    Raises:
        TakenOver: Another worker has changed it.
    """
    unchanged = ContactImport.objects.filter(
        pk=contact_import.pk, cursor=contact_import.cursor, finished_at=None
    )
    if not unchanged.update(**changes):
        raise TakenOver


def _find_problem(contact: Contact) -> str:
    try:
        contact.clean_fields()
    except ValidationError as error:
        fields = error.message_dict.items()
        return "; ".join(f"{name}: {' '.join(messages)}" for name, messages in fields)
    return ""


def _upsert_contacts(contacts: Sequence[Contact]) -> None:
    """Add or update contacts: the last row wins, but its blank fields change nothing."""
    by_email: dict[str, Contact] = {}
    emails = [contact.email for contact in contacts]
    stored = Contact.objects.filter(email__in=emails).order_by("email")
    for contact in chain(stored.select_for_update(), contacts):
        earlier = by_email.get(contact.email, contact)
        for field in UPDATED_FIELDS:
            value = getattr(contact, field) or getattr(earlier, field)
            setattr(contact, field, value)
        by_email[contact.email] = contact
    Contact.objects.bulk_create(
        # Sorted, so that two imports at once cannot deadlock.
        [by_email[email] for email in sorted(by_email)],
        update_conflicts=True,
        unique_fields=["email"],
        update_fields=UPDATED_FIELDS,
    )


def _record_outcomes(stopped: QuerySet[ContactImport]) -> None:
    """Record how an import ended if staff cancelled its job, or its worker died."""
    for contact_import in stopped.select_related("job"):
        ContactImport.objects.filter(pk=contact_import.pk).update(
            outcome=contact_import.state
        )


@transaction.atomic
def _remove_texts(stopped: QuerySet[ContactImport]) -> None:
    # Locked, so that nobody resumes one of them meanwhile.
    locked = stopped.select_for_update(of=("self",))
    ids = list(locked.values_list("pk", flat=True))
    ContactImport.objects.filter(pk__in=ids).update(digest=None)
    ImportPiece.objects.filter(contact_import__in=ids).delete()


def _rejected_rows(import_id: int) -> Iterator[Sequence[object]]:
    # In pages, because a pooler in front of the database may not allow cursors.
    line = 0
    rows = RejectedRow.objects.filter(contact_import=import_id).order_by("line")
    while page := list(rows.filter(line__gt=line)[:CHUNK_ROWS]):
        for row in page:
            yield row.line, row.reason, *row.values
        line = page[-1].line
