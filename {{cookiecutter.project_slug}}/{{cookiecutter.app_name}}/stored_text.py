"""The text of a file, stored in the database until all of it is imported."""

import codecs
import io
from collections.abc import Iterator
from typing import BinaryIO

from django.db import reset_queries

from .contacts_csv import MAX_ROW_LENGTH, BadFile
from .models import ContactImport

PIECE_LENGTH = 250_000
"""In characters. Each has at most 4 bytes in UTF-8, so a piece has at most 1 MB."""


def store(contact_import: ContactImport, file: BinaryIO) -> None:
    """Store a file's text with LF as line ends, and set the import's length.

    Raises:
        BadFile: It is neither UTF-8 nor UTF-16, or has a line that is too long.
    """
    file.seek(0)
    is_utf_16 = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    file.seek(0)
    text = io.TextIOWrapper(file, encoding="utf-16" if is_utf_16 else "utf-8-sig")
    unbroken = 0
    try:
        pieces = iter(lambda: text.read(PIECE_LENGTH), "")
        for number, piece in enumerate(pieces):
            # PostgreSQL cannot store NUL in the texts that are made of this.
            piece = piece.replace("\0", "\N{REPLACEMENT CHARACTER}")
            contact_import.pieces.create(number=number, content=piece.encode())
            contact_import.length += len(piece)
            # With DEBUG, Django keeps all queries, and these are large.
            reset_queries()
            unbroken = 0 if "\n" in piece else unbroken + len(piece)
            if unbroken > MAX_ROW_LENGTH:
                raise BadFile(f"A line is longer than {MAX_ROW_LENGTH:,} characters.")
    except UnicodeDecodeError:
        raise BadFile(
            "The file is neither UTF-8 nor UTF-16 text: save it as “CSV UTF-8”."
        ) from None
    finally:
        # Otherwise the wrapper would close the file, which belongs to the caller.
        text.detach()


def read(contact_import: ContactImport) -> Iterator[str]:
    """Yield the text from the import's cursor on, piece by piece.

    Raises:
        ImportPiece.DoesNotExist: The import is finished, and its text removed.
    """
    first, offset = divmod(contact_import.cursor, PIECE_LENGTH)
    for number in range(first, -(-contact_import.length // PIECE_LENGTH)):
        piece = contact_import.pieces.get(number=number)
        yield bytes(piece.content).decode()[offset:]
        offset = 0
