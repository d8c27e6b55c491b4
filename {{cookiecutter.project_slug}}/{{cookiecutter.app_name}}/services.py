"""The service layer: what the app does. Views, tasks and commands only call it."""

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from itertools import chain, islice
from typing import BinaryIO

from django.core.mail import send_mail
from django.db import IntegrityError, reset_queries, transaction
from django.db.models import F, Prefetch, Value
from django.db.models.functions import Coalesce, Concat, Upper
from django.utils import timezone
from procrastinate.contrib.django import app as queue
from procrastinate.contrib.django.models import ProcrastinateEvent, ProcrastinateJob

from users.models import User

from . import contacts_csv, tasks
from .contacts_csv import PIECE_LENGTH, Lines, Row
from .models import (
    SEARCHED,
    Contact,
    ContactImport,
    ImportPiece,
    RejectedRow,
    search_key,
)

CHUNK_ROWS = 500
PAGE_ROWS = 50
SEARCH_ROWS = 1_000
SAMPLE_ROWS = 10_000

LAST = Value(chr(sys.maxunicode))
"""The last character: what begins with a text comes before the text with this."""

TEXT_AGE = timedelta(days=7)
"""How long the text of an import that stopped is kept, so that it can go on."""
IMPORT_AGE = timedelta(days=30)
"""How long an import is kept when it is over."""


class AlreadyImporting(Exception):
    """The same file of the same owner waits or is imported already."""


class ImportMoved(Exception):
    """Another worker goes on with the import."""


@transaction.atomic
def start_import(
    *,
    owner: User,
    filename: str,
    file: BinaryIO,
    schedule_at: datetime | None = None,
) -> ContactImport:
    """Store a CSV file and defer its import; or go on with it, if it was here before.

    Args:
        owner: Who alone will see the import.
        filename: What to call it.
        file: Open for reading bytes; it stays open.
        schedule_at: When to start; None is at once.

    Raises:
        BadFile: The file as a whole cannot be imported; nothing is stored.
        AlreadyImporting: The same file of the owner waits or is imported.
    """
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").digest()  # type: ignore[arg-type]
    with closing(contacts_csv.read_pieces(file)) as pieces:
        first = next(pieces, "")
        header = Lines([first])
        columns = contacts_csv.read_header(header)
        try:
            with transaction.atomic():
                contact_import = ContactImport.objects.create(
                    owner=owner,
                    filename=filename,
                    digest=digest,
                    columns=columns,
                    length=0,
                    line=header.line,
                    cursor=header.cursor,
                )
        except IntegrityError:
            twin = ContactImport.objects.filter(owner=owner, digest=digest).first()
            if not twin or not retry_import(import_id=twin.pk, schedule_at=schedule_at):
                raise AlreadyImporting from None
            return twin
        for number, piece in enumerate(chain([first], pieces)):
            contact_import.pieces.create(number=number, content=piece.encode())
            contact_import.length += len(piece)
            # DEBUG keeps every query, with its megabyte.
            reset_queries()
    contact_import.save(update_fields=["length"])
    _defer(contact_import, schedule_at)
    return contact_import


def start_sample_import(*, owner: User) -> ContactImport:
    """Import made-up contacts, so that nobody needs a file to try it.

    Raises:
        AlreadyImporting: The owner's sample waits or is imported.
    """
    filename = f"{SAMPLE_ROWS:,} sample contacts.csv"
    file = contacts_csv.make_sample(rows=SAMPLE_ROWS)
    return start_import(owner=owner, filename=filename, file=file)


def cancel_import(*, import_id: int) -> None:
    """Take an import out of the queue, or ask its worker to stop after this chunk.

    What was imported stays. It has no effect on an import that is over.
    """
    contact_import = ContactImport.objects.get(pk=import_id)
    if contact_import.job_id:
        queue.job_manager.cancel_job_by_id(contact_import.job_id, abort=True)


@transaction.atomic
def retry_import(*, import_id: int, schedule_at: datetime | None = None) -> bool:
    """Go on with an import that failed or was cancelled, where it stopped.

    Args:
        import_id: The `ContactImport`.
        schedule_at: When to go on; None is at once.

    Returns:
        Whether it goes on: not if it waits or runs already, or its text is gone.
    """
    # Locked, so that of two at once the second sees the job of the first.
    ContactImport.objects.select_for_update().get(pk=import_id)
    contact_import = ContactImport.objects.select_related("job").get(pk=import_id)
    if not contact_import.can_go_on:
        return False
    _defer(contact_import, schedule_at)
    return True


def import_contacts(*, import_id: int, should_stop: Callable[[], bool]) -> bool:
    """Import the rows that are left; after the last, defer the summary.

    The cursor, the counts and the contacts change in one transaction for each chunk
    of rows: a killed import goes on where it was, and no row counts twice.

    Args:
        import_id: The `ContactImport`.
        should_stop: Asked between chunks.

    Returns:
        Whether nothing is left to do.
    """
    contact_import = ContactImport.objects.get(pk=import_id)
    ContactImport.objects.filter(pk=import_id, finished_at=None).update(
        started_at=timezone.now(), started_line=contact_import.line, reason=""
    )
    try:
        for rows in _chunks(contact_import):
            if should_stop():
                return False
            _import_chunk(contact_import, rows)
            # DEBUG keeps every query, which would grow with the file.
            reset_queries()
        _finish(contact_import)
    except ImportMoved:
        return True
    except Exception as error:
        ContactImport.objects.filter(pk=import_id).update(
            reason=f"{type(error).__name__} after line {contact_import.line}"
        )
        raise
    return True


def send_summary(*, import_id: int) -> None:
    """Mail the owner what became of an import: once, or twice if a worker dies."""
    contact_import = ContactImport.objects.select_related("owner").get(pk=import_id)
    if contact_import.summary_sent_at or not contact_import.owner.email:
        return
    send_mail(
        subject=f"Contacts imported: {contact_import.filename}",
        message=(
            f"{contact_import.imported} rows were imported,"
            f" and {contact_import.rejected} rejected.\n"
        ),
        from_email=None,
        recipient_list=[contact_import.owner.email],
    )
    contact_import.summary_sent_at = timezone.now()
    contact_import.save(update_fields=["summary_sent_at"])


def remove_old_imports() -> None:
    """Remove imports that are over, and before that the text of those that stopped."""
    now = timezone.now()
    over = ContactImport.objects.exclude(job__status__in=["todo", "doing"])
    over = over.annotate(last=Coalesce("finished_at", "started_at", "created_at"))
    over.filter(last__lt=now - IMPORT_AGE).delete()
    stopped = over.filter(last__lt=now - TEXT_AGE, digest__isnull=False)
    with transaction.atomic():
        # Locked, so that none of them goes on at the same time.
        ids = list(stopped.select_for_update(of=("self",)).values_list("pk", flat=True))
        ContactImport.objects.filter(pk__in=ids).update(digest=None)
        ImportPiece.objects.filter(contact_import__in=ids).delete()


def find_contacts(*, search: str = "", after: str = "") -> Sequence[Contact]:
    """Return a page of contacts in the order of their addresses, and one more if any.

    As fast with a million contacts as with ten: a page begins after an address instead
    of having a number, and a search takes no more than the first of each index.

    Args:
        search: How the address, the name or the company begins, in any case. It finds
            the first `SEARCH_ROWS` of each.
        after: The last address of the page before.
    """
    if not search:
        contacts = Contact.objects.filter(email__gt=after).order_by("email")
        return list(contacts[: PAGE_ROWS + 1])
    start = Upper(Value(search))
    found: dict[str, Contact] = {}
    for field in SEARCHED:
        # In the index's order: in another one, PostgreSQL may read all contacts.
        contacts = Contact.objects.alias(key=search_key(field)).order_by("key")
        contacts = contacts.filter(key__gte=start, key__lt=Concat(start, LAST))
        found |= {contact.email: contact for contact in contacts[:SEARCH_ROWS]}
    emails = sorted(email for email in found if email > after)
    return [found[email] for email in emails[: PAGE_ROWS + 1]]


def rejected_csv(*, import_id: int) -> Iterator[str]:
    """Yield the lines of a CSV file of an import's rejected rows, to be mended."""
    columns = ContactImport.objects.get(pk=import_id).columns
    yield from contacts_csv.write_rows([("line", "reason", *columns)])
    yield from contacts_csv.write_rows(_rejected_rows(import_id))


def jobs_of_import(*, import_id: int) -> Sequence[ProcrastinateJob]:
    """Return an import's jobs with their events: the developers' panel shows them.

    It reads the whole queue, so it is for development.
    """
    events = ProcrastinateEvent.objects.order_by("at", "pk")
    jobs = ProcrastinateJob.objects.filter(
        task_name__in=[tasks.import_contacts.name, tasks.send_summary.name],
        args={"import_id": import_id},
    )
    lives = Prefetch("procrastinateevent_set", events, to_attr="life")
    return list(jobs.order_by("pk").prefetch_related(lives))


def _defer(contact_import: ContactImport, schedule_at: datetime | None) -> None:
    # In the transaction of the rest: no worker sees the job before the file.
    job = tasks.import_contacts.configure(schedule_at=schedule_at)
    contact_import.job_id = job.defer(import_id=contact_import.pk)
    contact_import.save(update_fields=["job"])


def _rejected_rows(import_id: int) -> Iterator[Sequence[object]]:
    # In pages: a pooler in front of the database passes no server-side cursor.
    line = 0
    rows = RejectedRow.objects.filter(contact_import=import_id).order_by("line")
    while page := list(rows.filter(line__gt=line)[:CHUNK_ROWS]):
        for row in page:
            yield row.line, row.reason, *row.values
        line = page[-1].line


def _chunks(contact_import: ContactImport) -> Iterator[Sequence[Row]]:
    lines = Lines(
        _texts(contact_import), line=contact_import.line, cursor=contact_import.cursor
    )
    rows = contacts_csv.read_rows(lines, contact_import.columns)
    while chunk := list(islice(rows, CHUNK_ROWS)):
        yield chunk


def _texts(contact_import: ContactImport) -> Iterator[str]:
    """Yield the text from the cursor on, with one piece in memory at a time.

    Raises:
        ImportMoved: The import is finished, and so its text is gone.
    """
    first, offset = divmod(contact_import.cursor, PIECE_LENGTH)
    for number in range(first, -(-contact_import.length // PIECE_LENGTH)):
        piece = contact_import.pieces.filter(number=number).first()
        if not piece:
            raise ImportMoved
        yield bytes(piece.content).decode()[offset:]
        offset = 0


@transaction.atomic
def _import_chunk(contact_import: ContactImport, rows: Sequence[Row]) -> None:
    good = [row.contact for row in rows if row.contact]
    bad = [row for row in rows if not row.contact]
    line, cursor = rows[-1].end
    _move(
        contact_import,
        line=line,
        cursor=cursor,
        imported=F("imported") + len(good),
        rejected=F("rejected") + len(bad),
    )
    _upsert_contacts(good, fields=[name for name in contact_import.columns if name])
    RejectedRow.objects.bulk_create(
        RejectedRow(
            contact_import=contact_import,
            line=row.line,
            reason=row.problem,
            # PostgreSQL's texts hold no NUL characters.
            values=[
                value.replace("\0", "\N{REPLACEMENT CHARACTER}") for value in row.values
            ],
        )
        for row in bad
    )
    contact_import.line, contact_import.cursor = line, cursor


@transaction.atomic
def _finish(contact_import: ContactImport) -> None:
    _move(contact_import, finished_at=timezone.now(), digest=None)
    contact_import.pieces.all().delete()
    tasks.send_summary.defer(import_id=contact_import.pk)


def _move(contact_import: ContactImport, **changes: object) -> None:
    """Change an import, and hold it, if no other worker did since it was read.

    Raises:
        ImportMoved: Another worker did.
    """
    unmoved = ContactImport.objects.filter(
        pk=contact_import.pk, cursor=contact_import.cursor, finished_at=None
    )
    if not unmoved.update(**changes):
        raise ImportMoved


def _upsert_contacts(contacts: Iterable[Contact], *, fields: Sequence[str]) -> None:
    # PostgreSQL does not upsert a row twice in one statement: the last one wins.
    by_email = {contact.email: contact for contact in contacts}
    Contact.objects.bulk_create(
        # In one order, so that two imports at once cannot lock each other out.
        [by_email[email] for email in sorted(by_email)],
        update_conflicts=True,
        unique_fields=["email"],
        # What the file does not name stays as it is.
        update_fields=fields,
    )
