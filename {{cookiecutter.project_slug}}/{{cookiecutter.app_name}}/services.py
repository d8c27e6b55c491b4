"""The service layer: what the app does. Views, tasks and commands only call it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import BinaryIO

from django.core.mail import send_mail
from django.db import reset_queries, transaction
from django.db.models import F
from django.utils import timezone

from users.models import User

from . import contacts_csv, tasks
from .contacts_csv import PIECE_LENGTH, Lines, Row
from .models import Contact, ContactImport, RejectedRow

CHUNK_ROWS = 500


class ImportMoved(Exception):
    """Another worker goes on with the import."""


@transaction.atomic
def start_import(*, owner: User, filename: str, file: BinaryIO) -> ContactImport:
    """Store a CSV file and defer its import.

    Args:
        owner: Who alone will see the import.
        filename: What to call it.
        file: Open for reading bytes; it stays open.

    Raises:
        BadFile: The file as a whole cannot be imported; nothing is stored.
    """
    pieces = contacts_csv.read_pieces(file)
    first = next(pieces, "")
    header = Lines([first])
    contact_import = ContactImport.objects.create(
        owner=owner,
        filename=filename,
        columns=contacts_csv.read_header(header),
        length=0,
        line=header.line,
        cursor=header.cursor,
    )
    for number, piece in enumerate(chain([first], pieces)):
        contact_import.pieces.create(number=number, content=piece.encode())
        contact_import.length += len(piece)
        # DEBUG keeps every query, with its megabyte.
        reset_queries()
    # In the same transaction: no worker sees the job before the file, or without it.
    contact_import.job_id = tasks.import_contacts.defer(import_id=contact_import.pk)
    contact_import.save(update_fields=["length", "job"])
    return contact_import


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
        RejectedRow(contact_import=contact_import, line=row.line, reason=row.problem)
        for row in bad
    )
    contact_import.line, contact_import.cursor = line, cursor


@transaction.atomic
def _finish(contact_import: ContactImport) -> None:
    _move(contact_import, finished_at=timezone.now(), reason="")
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
