"""The CSV parser."""

import pytest

from .. import contacts_csv
from ..contacts_csv import BadFile, Row, RowReader


def read(*lines: str) -> list[Row]:
    """Read a header and all rows, with the text in small pieces."""
    text = "".join(f"{line}\n" for line in lines)
    found = RowReader.after_header(iter([text]))
    size = max(3, len(text) // 100)
    pieces = (text[n : n + size] for n in range(found.cursor, len(text), size))
    rows = RowReader(pieces, found.names, found.delimiter, found.line, found.cursor)
    chunks = []
    while rows.cursor < len(text):
        chunks += rows.read_chunk(rows=2)
    assert (rows.line, rows.cursor) == (text.count("\n"), len(text))
    return chunks


def test_columns_come_in_any_order_and_case() -> None:
    [row] = read("Phone,x, EMAIL ,name", "1,2, a@b.org,Ann")
    assert row.fields == {"phone": "1", "email": "a@b.org", "name": "Ann"}
    assert row.values == ["1", "2", " a@b.org", "Ann"]


@pytest.mark.parametrize(
    "header",
    [
        "First Name,Last Name,Organization Name,E-mail 1 - Value,Phone 1 - Value",
        "First Name,Last Name,Company,E-mail Address,Business Phone",
        "First Name,Last Name,Company name,Email,Phone Number",
        "First Name,Last Name,Company,Email Address,Mobile Phone",
        "Given Name,Family Name,Organization 1 - Name,E-mail,Home Phone",
    ],
)
def test_columns_are_found_by_the_names_that_programs_give_them(header: str) -> None:
    [row] = read(header, "Ann,Lee,Acme,a@b.org,1")
    contact = {"name": "Ann Lee", "company": "Acme", "email": "a@b.org", "phone": "1"}
    assert row.fields == contact


def test_of_several_columns_for_a_field_the_first_that_is_not_blank_counts() -> None:
    [row] = read("email,Business Phone,Home Phone,Mobile Phone", "a@b.org,,2,3")
    assert row.fields["phone"] == "2"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_from_the_header(delimiter: str) -> None:
    lines = ("email,name", 'a@b.org,"A,n"")n"', "c@d.org,C")
    ann, carl = read(*(line.replace(",", delimiter) for line in lines))
    assert ann.fields["name"] == f'A{delimiter}n")n'
    assert carl.fields["name"] == "C"


def test_notes_may_come_before_the_header() -> None:
    [row] = read("sep=;", "", "Notes:", "email;name", "a@b.org;Ann")
    assert (row.line, row.fields["name"]) == (5, "Ann")


@pytest.mark.parametrize("blank", ["", ",,,", " , ", '"",', '" \n",'])
def test_blank_rows_and_blank_cells_at_the_end_are_no_error(blank: str) -> None:
    [row] = read("email,name", blank, "a@b.org,Ann,,", blank)
    assert row.values == ["a@b.org", "Ann"]
    assert not row.problem


UNCLOSED = "a cell begins with a quote, but does not end with one"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a@b.org,a,b", "3 values for 2 columns"),
        ('a@b.org,"a', UNCLOSED),
        ('a@b.org,"a"b', UNCLOSED),
        ('a@b.org,"a""', UNCLOSED),
    ],
)
def test_a_bad_row_says_why_and_the_next_is_read(text: str, problem: str) -> None:
    bad, good = read("email,name", text, "c@d.org,C")
    assert (bad.line, bad.problem) == (2, problem)
    assert ",".join(bad.values) == text
    assert (good.line, good.problem) == (3, "")


def test_quotes_in_a_cell_without_quotes_are_text() -> None:
    [row] = read("email,name", 'a@b.org,Ann "A" Lee')
    assert row.fields["name"] == 'Ann "A" Lee'


def test_a_cell_in_quotes_may_have_many_lines() -> None:
    note = "evil@b.org,Evil\n" * 60_000
    row, last = read("email,name,note", f'a@b.org,"A\n\nn","{note}"', "c@d.org,C")
    assert row.values == ["a@b.org", "A\n\nn", note]
    assert (last.line, last.fields["name"]) == (60_005, "C")


def test_a_cell_that_is_too_long_is_rejected_line_by_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(contacts_csv, "MAX_ROW_LENGTH", 15)
    found = read("email,name", 'a@b.org,"A', "b", "c", 'd"', 'e@b.org,"E\nE"')
    assert [(row.line, bool(row.problem)) for row in found] == [
        (2, True),
        (3, False),
        (4, False),
        (5, False),
        (6, False),
    ]
    assert found[-1].fields["name"] == "E\nE"


def test_a_chunk_ends_after_many_characters() -> None:
    rows = RowReader(iter(["x" * 99 + "\n"] * 10_000), ["email"], ",", 0, 0)
    assert len(rows.read_chunk(rows=1_000_000)) == 2_500


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\n", "'=", "''@"])
def test_rejected_rows_come_back_as_they_were(start: str) -> None:
    values = [f"{start}1", "'2", start, "a;b", 'a"b', "c\nd"]
    header = [*contacts_csv.REJECTED_COLUMNS, "email", "a", "b", "c"]
    file = contacts_csv.write_rows([header, values], delimiter=";")
    text = "".join(file).replace("\r\n", "\n")
    assert f"'{start}1" in text
    [row] = read(*text.splitlines())
    assert row.values == values
    # In any other file, an apostrophe is text.
    [row] = read("email", "'=1")
    assert row.values == ["'=1"]


@pytest.mark.parametrize(
    "lines",
    [
        ["ann@example.com,Ann"],
        ["", ""],
        [],
        ['"email'],
        [f"email,{'x' * 20_000}"],
        [*("a note" for _ in range(10)), "email"],
    ],
)
def test_a_file_without_a_header_is_rejected(lines: list[str]) -> None:
    with pytest.raises(BadFile, match="must be “email”"):
        read(*lines)
