from io import BytesIO

import pytest

from .. import contacts_csv
from ..contacts_csv import BadFile, Lines, Row
from .conftest import CsvFile


def read(file: BytesIO) -> list[Row]:
    lines = Lines(contacts_csv.read_pieces(file))
    return list(contacts_csv.read_rows(lines, contacts_csv.read_header(lines)))


def test_columns_come_in_any_order_and_case(csv_file: CsvFile) -> None:
    [row] = read(csv_file("Phone,x, E-Mail ,EMAIL,name", "1,2,3,A@b.org,Ann"))
    assert row.contact
    assert (row.contact.email, row.contact.name) == ("a@b.org", "Ann")
    assert (row.contact.phone, row.contact.company) == ("1", "")


def test_a_byte_order_mark_is_not_part_of_the_header(csv_file: CsvFile) -> None:
    [row] = read(csv_file("email", "a@b.org", encoding="utf-8-sig"))
    assert row.contact


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_kind_of_line_end_is_read(end: str) -> None:
    rows = read(BytesIO(f'email,name{end}a@b.org,"A{end}B"{end}c@d.org,C'.encode()))
    assert [row.contact and row.contact.name for row in rows] == ["A\nB", "C"]


def test_blank_lines_are_no_rows(csv_file: CsvFile) -> None:
    assert [row.line for row in read(csv_file("email", "", "a@b.org", ""))] == [3]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("no address", "email: Enter a valid email address."),
        (",Ann", "email: This field cannot be blank."),
        ("a@b.org,a\0b", "a NUL character"),
        ("a@b.org,a,b", "3 values for 2 columns"),
        (f"a@b.org,{'x' * 201}", "name: Ensure this value has at most 200"),
        (f"a@b.org,{'x' * 140_000}", "field larger than field limit (131072)"),
        ('a@b.org,"a"b', "',' expected after '\"'"),
    ],
)
def test_a_bad_row_says_why_and_the_next_is_read(
    csv_file: CsvFile, text: str, problem: str
) -> None:
    bad, good = read(csv_file("email,name", text, "c@d.org,C"))
    assert (bad.line, bad.contact) == (2, None)
    assert bad.problem.startswith(problem)
    assert good.contact


def test_a_quote_that_nobody_closes_says_how_far_it_goes(csv_file: CsvFile) -> None:
    [row] = read(csv_file("email,name", 'a@b.org,"A', "c@d.org,C"))
    assert row.problem == "unexpected end of data (the row goes on to line 3)"


def test_a_line_without_an_end_does_not_grow_in_memory() -> None:
    lines = Lines("x" * 250_000 for _ in range(20))
    assert max(len(line) for line in lines) <= 1_250_000
    assert lines.cursor == 5_000_000


def test_reading_goes_on_at_the_end_of_any_row(csv_file: CsvFile) -> None:
    file = csv_file("email,name", 'a@b.org,"A\né"', "bad", "c@d.org,C")
    text = "".join(contacts_csv.read_pieces(file))
    rows = read(file)
    for done, row in enumerate(rows, start=1):
        line, cursor = row.end
        left = Lines([text[cursor:]], line=line, cursor=cursor)
        ends = [row.end for row in contacts_csv.read_rows(left, ["email", "name"])]
        assert ends == [row.end for row in rows[done:]]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"email\n\xff", "not UTF-8"),
        (b"ann@example.com,Ann\n", "must be “email”"),
        (b"\n\n", "must be “email”"),
        (b'"email', "must be “email”"),
        (b"email,name,Name\n", "“name” twice"),
    ],
)
def test_a_bad_file_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(BadFile, match=reason):
        read(BytesIO(content))
