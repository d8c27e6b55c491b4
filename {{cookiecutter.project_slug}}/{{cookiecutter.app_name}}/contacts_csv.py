"""Reads and writes contacts as CSV text; uses neither models nor the database."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Self

# What address books and mailing programs call a column, without digits and signs.
COLUMNS = {
    "email": "e ?mail( address| value)?",
    "name": "(full )?name",
    "first name": "(first|given) name",
    "last name": "(last|family) name",
    "company": "(company|organization)( name)?",
    "phone": "((mobile|business|home) )?phone( number| value)?",
}
# A file of rejected rows begins with these columns.
REJECTED_COLUMNS = ("line", "reason")
DELIMITERS = ",;\t|"
# Possessive, so that a failed match takes no longer than a good one.
CELL = r'(?:"([^"]*+(?:""[^"]*+)*+)"|([^"\n{0}]*+))({0}|\n|\Z)'
# How a formula for a spreadsheet begins, after the apostrophes that keep it from running.
FORMULA = r"(?='*[=+\-@\t\r\n])"

HEADER_LINES = 10  # `sep=;` or notes may come before the header
HEADER_LENGTH = 20_000  # in characters, like the next two
CHUNK_LENGTH = 250_000
MAX_ROW_LENGTH = 1_100_000  # a cell of 1 MB, and some others

SAMPLE_NAMES = ("Ada Adams", "Alan Berg", "Barbara Costa", "Edsger Evans", "Grace Kim")
SAMPLE_COMPANIES = ("Acme", "Globex", "Initech", "Umbrella Group", "Wayne Enterprises")
SAMPLE_BAD_ROW_EVERY = 500


class BadFile(Exception):
    """The file cannot be imported at all. The message is shown to its owner."""


@dataclass(frozen=True)
class Row:
    """One record of a file.

    Args:
        line: The line where it begins; the first line of the file is 1.
        values: The text of each column, without blank ones at the end.
        fields: The values for fields of a contact, without blank ones.
        problem: Why the record cannot be read, or an empty text.
    """

    line: int
    values: Sequence[str]
    fields: Mapping[str, str]
    problem: str


@dataclass
class RowReader:
    """Reads rows, and accounts for each line: it belongs to a row, or it is blank.

    A row may span lines if its quotes follow RFC 4180. If they do not, or if the row is
    too long, its first line is rejected, and the next line begins a row. So no line is
    searched for the end of a cell twice, and reading can resume after any row.

    Args:
        pieces: The text after the cursor, in pieces of any length. Each line must be
            shorter than two of the longest rows; `stored_text.store` sees to that.
        names: The columns' names in the header.
        delimiter: The character between two columns.
        line: How many lines have been read.
        cursor: How many characters have been read.
    """

    pieces: Iterator[str]
    names: Sequence[str]
    delimiter: str
    line: int
    cursor: int
    _text: str = field(default="", init=False)
    _start: int = field(default=0, init=False)

    @classmethod
    def after_header(cls, pieces: Iterator[str]) -> Self:
        """Find the header of a file.

        Raises:
            BadFile: None of the first lines names an e-mail column.
        """
        text, start = next(pieces, ""), 0
        for _ in range(HEADER_LINES):
            for delimiter in DELIMITERS:
                names, end, problem = _split_row(text, start, delimiter)
                found = "email" in match_columns(names) and not problem
                if found and end <= HEADER_LENGTH:
                    line = text.count("\n", 0, end - 1) + 1
                    return cls(pieces, names, delimiter, line, end)
            start = text.find("\n", start) + 1 or len(text)
        raise BadFile(
            f"One of the first {HEADER_LINES} lines must name the columns, and one of"
            " them must be “email”; “name”, “company” and “phone” are optional."
        )

    def read_chunk(self, *, rows: int) -> list[Row]:
        """Read some rows, and the blank lines between them."""
        chunk: list[Row] = []
        columns = match_columns(self.names)
        end_of_chunk = self.cursor + CHUNK_LENGTH
        while len(chunk) < rows and self.cursor < end_of_chunk and self._fill():
            line, start = self.line + 1, self._start
            values, end, problem = _split_row(self._text, start, self.delimiter)
            self.line += self._text.count("\n", start, end - 1) + 1
            self.cursor += end - start
            self._start = end
            while values and not values[-1].strip():
                values.pop()
            if values:
                chunk.append(self._make_row(line, columns, values, problem))
        return chunk

    def _fill(self) -> bool:
        """Make sure that a whole row is in memory; return False at the end."""
        while len(self._text) - self._start < 2 * MAX_ROW_LENGTH:
            piece = next(self.pieces, "")
            if not piece:
                break
            self._text = self._text[self._start :] + piece
            self._start = 0
        return self._start < len(self._text)

    def _make_row(
        self, line: int, columns: list[str], values: list[str], problem: str
    ) -> Row:
        if len(values) > len(columns):
            problem = problem or f"{len(values)} values for {len(columns)} columns"
        if tuple(self.names[:2]) == REJECTED_COLUMNS:
            values = [re.sub(f"^'{FORMULA}", "", value) for value in values]
        fields: dict[str, str] = {}
        for column, value in zip(columns, values, strict=False):
            if column and value.strip():
                # Of several e-mail addresses or phone numbers, the first one counts.
                fields.setdefault(column, value.strip())
        names = [fields.pop(name, "") for name in ("first name", "last name")]
        fields.setdefault("name", " ".join(filter(None, names)))
        return Row(line, values, fields, problem)


def match_columns(names: Iterable[str]) -> list[str]:
    """Return the key in `COLUMNS` for each name, or an empty text."""
    keys: list[str] = []
    for name in names:
        words = " ".join(re.findall(r"[^\W\d_]+", name.lower()))
        keys += [key for key in COLUMNS if re.fullmatch(COLUMNS[key], words)] or [""]
    return keys


def write_rows(rows: Iterable[Sequence[object]], *, delimiter: str) -> Iterator[str]:
    """Yield the lines of a CSV file that is safe to open in a spreadsheet."""
    line = io.StringIO()
    writer = csv.writer(line, delimiter=delimiter)
    for row in rows:
        writer.writerow([re.sub(f"^{FORMULA}", "'", str(value)) for value in row])
        yield line.getvalue()
        line.seek(0)
        line.truncate()


def make_sample(*, rows: int) -> BinaryIO:
    """Return a file of invented contacts for a first import; some rows are bad."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["email", "name", "company", "phone"])
    for number in range(1, rows + 1):
        name = SAMPLE_NAMES[number % len(SAMPLE_NAMES)]
        company = SAMPLE_COMPANIES[number // 7 % len(SAMPLE_COMPANIES)]
        at = "@" if number % SAMPLE_BAD_ROW_EVERY else " at "
        email = f"{name.replace(' ', '.')}.{number}{at}example.com".lower()
        writer.writerow([email, name, company, f"+1 555 {number:06}"])
    return io.BytesIO(text.getvalue().encode())


def _split_row(text: str, start: int, delimiter: str) -> tuple[list[str], int, str]:
    """Return the cells of the row that starts there, its end, and what is wrong."""
    end_of_line = text.find("\n", start) + 1 or len(text)
    line = text[start:end_of_line].removesuffix("\n").split(delimiter)
    if not any(value.startswith('"') for value in line):
        return line, end_of_line, ""
    pattern = re.compile(CELL.format(re.escape(delimiter)))
    row: list[str] = []
    end = start
    while (cell := pattern.match(text, end)) and cell.end() - start <= MAX_ROW_LENGTH:
        quoted, plain, end_of_cell = cell.groups("")
        row.append(plain or quoted.replace('""', '"'))
        end = cell.end()
        if end_of_cell != delimiter:
            return row, end, ""
    return line, end_of_line, "a cell begins with a quote, but does not end with one"
