"""The stored text, and the rows that are read from it."""

from io import BytesIO

import pytest

from users.models import User

from .. import stored_text
from ..contacts_csv import MAX_ROW_LENGTH, BadFile, RowReader
from ..models import ContactImport
from .conftest import CsvFile


@pytest.fixture
def contact_import(user: User) -> ContactImport:
    """An import without a text."""
    return ContactImport.objects.create(
        owner=user,
        filename="a",
        columns=["email", "name"],
        delimiter=",",
        length=0,
        cursor=0,
        line=0,
    )


def store(contact_import: ContactImport, file: BytesIO) -> str:
    stored_text.store(contact_import, file)
    return "".join(stored_text.read(contact_import))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_not_part_of_the_text(
    contact_import: ContactImport, csv_file: CsvFile, encoding: str
) -> None:
    file = csv_file("email,é", encoding=encoding)
    assert store(contact_import, file) == "email,é\n"


def test_a_nul_character_is_replaced(contact_import: ContactImport) -> None:
    text = store(contact_import, BytesIO(b"a\0b"))
    assert text == "a\N{REPLACEMENT CHARACTER}b"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_kind_of_line_ending_is_read(
    contact_import: ContactImport, end: str
) -> None:
    file = BytesIO(f'a@b.org,"A{end}B"{end}c@d.org,C'.encode())
    assert store(contact_import, file) == 'a@b.org,"A\nB"\nc@d.org,C'


@pytest.mark.parametrize("content", [b"email\n\xff", b"\xff\xfee"])
def test_other_encodings_are_rejected(
    contact_import: ContactImport, content: bytes
) -> None:
    with pytest.raises(BadFile, match="save it as “CSV UTF-8”"):
        store(contact_import, BytesIO(content))


def test_pieces_hold_a_megabyte_at_most(
    contact_import: ContactImport, csv_file: CsvFile
) -> None:
    store(contact_import, csv_file(*["a@b.org," + "𝄞" * 190] * 2_000))
    sizes = [len(piece.content) for piece in contact_import.pieces.all()]
    assert len(sizes) > 1
    assert max(sizes) <= 1_000_000


def test_a_line_that_is_too_long_is_rejected(contact_import: ContactImport) -> None:
    with pytest.raises(BadFile, match="A line is longer than 1,100,000 characters"):
        store(contact_import, BytesIO(b"x" * 2_000_000))


def test_the_longest_line_that_is_stored_is_read_as_one(
    contact_import: ContactImport,
) -> None:
    # It begins and ends in pieces that have a line end.
    piece = "x" * stored_text.PIECE_LENGTH
    line = piece[1:] + piece * (MAX_ROW_LENGTH // len(piece)) + piece[1:]
    stored_text.store(contact_import, BytesIO(f"\n{line}\n".encode()))
    pieces = stored_text.read(contact_import)
    rows = RowReader(pieces, ["email"], ",", line=0, cursor=0)
    assert [row.values for row in rows.read_chunk(rows=2)] == [[line]]


@pytest.mark.parametrize("piece_length", [7, 1_000])
def test_reading_continues_after_any_row(
    contact_import: ContactImport,
    csv_file: CsvFile,
    monkeypatch: pytest.MonkeyPatch,
    piece_length: int,
) -> None:
    def reader() -> RowReader:
        return RowReader(
            stored_text.read(contact_import),
            contact_import.columns,
            contact_import.delimiter,
            contact_import.line,
            contact_import.cursor,
        )

    monkeypatch.setattr(stored_text, "PIECE_LENGTH", piece_length)
    store(contact_import, csv_file('a@b.org,"A\né"', '"bad', "", '"bad', "c@d.org,C"))
    everything = reader().read_chunk(rows=100)
    assert [row.line for row in everything] == [1, 3, 5, 6]
    for done in range(4):
        rows = reader()
        assert rows.read_chunk(rows=100) == everything[done:]
        rows = reader()
        rows.read_chunk(rows=1)
        contact_import.line, contact_import.cursor = rows.line, rows.cursor
