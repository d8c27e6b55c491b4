"""The CSV parser."""

from io import StringIO

import pytest

from .. import contacts_csv
from ..contacts_csv import BadFile, Row


def read(*lines: str) -> list[Row]:
    text = StringIO("".join(f"{line}\n" for line in lines))
    columns = contacts_csv.read_header(text)
    return list(contacts_csv.read_rows(text, columns, lines_before=1))


def test_columns_come_in_any_order_and_case() -> None:
    [row] = read("Phone,x, E-Mail ,EMAIL,name", "1,2,3, a@b.org,Ann")
    assert row.fields == {"phone": "1", "email": "a@b.org", "name": "Ann"}
    assert row.values == ["1", "2", "3", " a@b.org", "Ann"]


def test_blank_lines_are_skipped() -> None:
    assert [row.line for row in read("email", "", "a@b.org", "")] == [3]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a@b.org,a\0b", "a NUL character"),
        ("a@b.org,a,b", "3 values for 2 columns"),
        (f"a@b.org,{'x' * 140_000}", "field larger than field limit (131072)"),
        ('a@b.org,"a"b', "',' expected after '\"'"),
    ],
)
def test_a_bad_row_says_why_and_the_next_is_read(text: str, problem: str) -> None:
    bad, good = read("email,name", text, "c@d.org,C")
    assert (bad.line, bad.problem) == (2, problem)
    assert not good.problem


def test_an_unclosed_quote_is_reported_with_its_last_line() -> None:
    [row] = read("email,name", 'a@b.org,"A', "c@d.org,C")
    assert row.problem == "unexpected end of data"
    assert (row.line, row.last_line) == (2, 3)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["ann@example.com,Ann"], "must be “email”"),
        (["", ""], "must be “email”"),
        ([], "must be “email”"),
        (['"email'], "must be “email”"),
        (["email,name,Name"], "“name” twice"),
    ],
)
def test_a_bad_header_is_rejected(lines: list[str], reason: str) -> None:
    with pytest.raises(BadFile, match=reason):
        read(*lines)
