"""The text of a file, stored in the database until all of it is imported."""

import io
from collections.abc import Iterator
from typing import BinaryIO

from django.db import reset_queries

from .contacts_csv import BadFile
from .models import ContactImport

PIECE_LENGTH = 250_000
"""In characters. Each has at most 4 bytes in UTF-8, so a piece has at most 1 MB."""
MAX_LINE_LENGTH = 1_000_000
"""In characters. Longer lines are split, so that memory does not grow with them."""


class StoredText(Iterator[str]):
    """An import's text: stored in pieces, then read line by line from its cursor.

    One piece at a time is in memory.

    Attributes:
        line: How many lines have been read, including those of earlier workers.
        cursor: How many characters have been read, including those of earlier workers.
    """

    def __init__(self, contact_import: ContactImport) -> None:
        self.line = contact_import.line
        self.cursor = contact_import.cursor
        self._import = contact_import
        self._lines = self._split(self._pieces())

    def store(self, file: BinaryIO) -> None:
        """Store a file's text with LF as line ends, and set the import's length.

        Raises:
            BadFile: It is not UTF-8.
        """
        file.seek(0)
        text = io.TextIOWrapper(file, encoding="utf-8-sig")
        try:
            pieces = iter(lambda: text.read(PIECE_LENGTH), "")
            for number, piece in enumerate(pieces):
                self._import.pieces.create(number=number, content=piece.encode())
                self._import.length += len(piece)
                # With DEBUG, Django keeps all queries, and these are large.
                reset_queries()
        except UnicodeDecodeError:
            raise BadFile(
                "The file is not UTF-8 text: save it as “CSV UTF-8”."
            ) from None
        finally:
            # Otherwise the wrapper would close the file, which belongs to the caller.
            text.detach()

    def __next__(self) -> str:
        """Read a line.

        Raises:
            ImportPiece.DoesNotExist: The import is finished, and its text removed.
        """
        line = next(self._lines)
        self.line += 1
        self.cursor += len(line)
        return line

    def _pieces(self) -> Iterator[str]:
        first, offset = divmod(self.cursor, PIECE_LENGTH)
        for number in range(first, -(-self._import.length // PIECE_LENGTH)):
            piece = self._import.pieces.get(number=number)
            yield bytes(piece.content).decode()[offset:]
            offset = 0

    @staticmethod
    def _split(pieces: Iterator[str]) -> Iterator[str]:
        rest = ""
        for piece in pieces:
            *lines, rest = (rest + piece).split("\n")
            for line in lines:
                yield f"{line}\n"
            if len(rest) > MAX_LINE_LENGTH:
                yield rest
                rest = ""
        if rest:
            yield rest
