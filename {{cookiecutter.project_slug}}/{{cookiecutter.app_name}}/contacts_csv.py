"""Reads and writes contacts as CSV text; uses neither models nor the database."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

FIELDS = ("email", "name", "company", "phone")

# 7 and 11 have no common divisor, so every pair of names occurs.
SAMPLE_FIRST_NAMES = ("Ada", "Alan", "Barbara", "Dennis", "Edsger", "Grace", "Radia")
SAMPLE_LAST_NAMES = (
    *("Adams", "Berg", "Costa", "Dubois", "Evans", "Fischer", "Garcia", "Haddad"),
    *("Ito", "Jansen", "Kim"),
)
SAMPLE_COMPANIES = ("Acme", "Globex", "Initech", "Umbrella", "Wayne Enterprises")
SAMPLE_BAD_ROW_EVERY = 500


class BadFile(Exception):
    """The file cannot be imported at all. The message is shown to its owner."""


@dataclass(frozen=True)
class Row:
    """One record of a file.

    Args:
        line: The line where it begins; the header is line 1.
        last_line: The line where it ends.
        values: The text of each column; empty if the record cannot be parsed.
        fields: The text of each column that has a name in `FIELDS`.
        problem: Why the record cannot be read, or an empty text.
    """

    line: int
    last_line: int
    values: Sequence[str]
    fields: Mapping[str, str]
    problem: str


def read_header(lines: Iterator[str]) -> list[str]:
    """Read the header; return each column's name in `FIELDS`, or an empty text.

    Raises:
        BadFile: The header has no e-mail column, or names a column twice.
    """
    try:
        names = next(csv.reader(lines, strict=True), [])
    except csv.Error:
        names = []
    names = [name.strip().lower() for name in names]
    columns = [name if name in FIELDS else "" for name in names]
    if "email" not in columns:
        raise BadFile(
            "The first line must name the columns, separated by commas, and one of"
            " them must be “email”; “name”, “company” and “phone” are optional."
        )
    if twice := [name for name in FIELDS if columns.count(name) > 1]:
        raise BadFile(f"The first line names the column “{twice[0]}” twice.")
    return columns


def read_rows(
    lines: Iterable[str], columns: Sequence[str], *, lines_before: int
) -> Iterator[Row]:
    """Yield records, each as soon as it is read; skip blank lines.

    Args:
        lines: The lines after the header, or after a later record.
        columns: As `read_header` returned them.
        lines_before: How many lines came before.
    """
    reader = csv.reader(lines, strict=True)
    while True:
        line = lines_before + reader.line_num + 1
        values: list[str] = []
        problem = ""
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problem = str(error)
        if not (values or problem):
            continue
        if len(values) > len(columns):
            problem = f"{len(values)} values for {len(columns)} columns"
        elif any("\0" in value for value in values):
            problem = "a NUL character"
        named = zip(columns, values, strict=False)
        fields = {name: value.strip() for name, value in named if name}
        yield Row(line, lines_before + reader.line_num, values, fields, problem)


def write_rows(rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Yield the lines of a CSV file that is safe to open in a spreadsheet."""
    line = io.StringIO()
    writer = csv.writer(line)
    for row in rows:
        writer.writerow([_escape_formula(str(value)) for value in row])
        yield line.getvalue()
        line.seek(0)
        line.truncate()


def make_sample(*, rows: int) -> BinaryIO:
    """Return a file of invented contacts for a first import; some rows are bad."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(FIELDS)
    for number in range(1, rows + 1):
        first = SAMPLE_FIRST_NAMES[number % len(SAMPLE_FIRST_NAMES)]
        last = SAMPLE_LAST_NAMES[number % len(SAMPLE_LAST_NAMES)]
        company = SAMPLE_COMPANIES[number % len(SAMPLE_COMPANIES)]
        at = "@" if number % SAMPLE_BAD_ROW_EVERY else " at "
        email = f"{first}.{last}.{number}{at}example.com".lower()
        writer.writerow([email, f"{first} {last}", company, f"+1 555 {number:06}"])
    return io.BytesIO(text.getvalue().encode())


def _escape_formula(value: str) -> str:
    """Keep a spreadsheet from running a text as a formula."""
    return f"'{value}" if value.startswith(tuple("=+-@\t\r")) else value
