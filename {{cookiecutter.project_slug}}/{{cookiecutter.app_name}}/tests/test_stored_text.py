"""The stored text, and the rows read from it."""

from io import BytesIO

import pytest

from users.models import User

from .. import contacts_csv, stored_text
from ..contacts_csv import BadFile, Row
from ..models import ContactImport
from ..stored_text import StoredText
from .conftest import CsvFile


@pytest.fixture
def contact_import(user: User) -> ContactImport:
    """An import without a text."""
    return ContactImport.objects.create(
        owner=user, filename="a", columns=["email", "name"], length=0, cursor=0, line=0
    )


def store(contact_import: ContactImport, file: BytesIO) -> StoredText:
    text = StoredText(contact_import)
    text.store(file)
    return text


def rows(text: StoredText) -> list[Row]:
    columns = ["email", "name"]
    return list(contacts_csv.read_rows(text, columns, lines_before=text.line))


def test_a_byte_order_mark_is_not_part_of_the_text(
    contact_import: ContactImport, csv_file: CsvFile
) -> None:
    file = csv_file("email", encoding="utf-8-sig")
    assert list(store(contact_import, file)) == ["email\n"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_kind_of_line_ending_is_read(
    contact_import: ContactImport, end: str
) -> None:
    file = BytesIO(f'a@b.org,"A{end}B"{end}c@d.org,C'.encode())
    names = [row.fields["name"] for row in rows(store(contact_import, file))]
    assert names == ["A\nB", "C"]


def test_a_text_that_is_not_utf_8_is_rejected(contact_import: ContactImport) -> None:
    with pytest.raises(BadFile, match="not UTF-8"):
        store(contact_import, BytesIO(b"email\n\xff"))


def test_pieces_hold_a_megabyte_at_most(
    contact_import: ContactImport, csv_file: CsvFile
) -> None:
    store(contact_import, csv_file(*["a@b.org," + "𝄞" * 190] * 2_000))
    sizes = [len(piece.content) for piece in contact_import.pieces.all()]
    assert len(sizes) > 1
    assert max(sizes) <= 1_000_000


def test_a_line_without_an_end_does_not_grow_in_memory(
    contact_import: ContactImport,
) -> None:
    text = store(contact_import, BytesIO(b"x" * 5_000_000))
    assert max(len(line) for line in text) <= 1_250_000
    assert text.cursor == contact_import.length == 5_000_000


@pytest.mark.parametrize("piece_length", [7, 1_000])
def test_reading_continues_after_any_row(
    contact_import: ContactImport,
    csv_file: CsvFile,
    monkeypatch: pytest.MonkeyPatch,
    piece_length: int,
) -> None:
    monkeypatch.setattr(stored_text, "PIECE_LENGTH", piece_length)
    file = csv_file('a@b.org,"A\né"', "bad", "", "c@d.org,C")
    text = store(contact_import, file)
    ends = []
    for _ in contacts_csv.read_rows(text, contact_import.columns, lines_before=0):
        ends.append((text.line, text.cursor))
    everything = rows(StoredText(contact_import))
    assert len(everything) == len(ends) == 3
    for done, (line, cursor) in enumerate(ends, start=1):
        contact_import.line, contact_import.cursor = line, cursor
        assert rows(StoredText(contact_import)) == everything[done:]
