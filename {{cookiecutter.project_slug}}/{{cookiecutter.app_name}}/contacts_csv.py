"""Contacts in CSV files: which files are good, and what their rows say."""

import csv
import io
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from django.core.exceptions import ValidationError

from .models import Contact

FIELDS = ("email", "name", "company", "phone")
PIECE_LENGTH = 250_000
"""Characters. UTF-8 needs 4 bytes for one at most, so a piece has at most 1 MB."""
MAX_LINE_LENGTH = 1_000_000

# Numbers of names without a common divisor, so that many pairs come about.
SAMPLE_FIRST_NAMES = ("Ada", "Alan", "Barbara", "Dennis", "Edsger", "Grace", "Radia")
SAMPLE_LAST_NAMES = (
    *("Adams", "Berg", "Costa", "Dubois", "Evans", "Fischer", "Garcia", "Haddad"),
    *("Ito", "Jansen", "Kim"),
)
SAMPLE_COMPANIES = ("Acme", "Globex", "Initech", "Umbrella", "Wayne Enterprises")
SAMPLE_BAD_EVERY = 500


class BadFile(Exception):
    """The file as a whole cannot be imported. The message is for its owner."""


@dataclass(frozen=True)
class Row:
    """One record of a file, good or bad.

    Args:
        line: Where it begins; the header is line 1.
        end: The lines and the characters of text up to its end.
        contact: What it says, unsaved; None if it is bad.
        problem: Why it is bad.
        values: The columns' texts as they are, if they could be told apart.
    """

    line: int
    end: tuple[int, int]
    contact: Contact | None
    problem: str = ""
    values: Sequence[str] = ()


class Lines(Iterator[str]):
    """The lines of a text that comes in pieces, counting what was handed out.

    Args:
        texts: The pieces.
        line: How many lines came before them.
        cursor: How many characters came before them.
    """

    def __init__(self, texts: Iterable[str], *, line: int = 0, cursor: int = 0) -> None:
        self.line = line
        self.cursor = cursor
        self._lines = self._split(texts)

    def __next__(self) -> str:
        line = next(self._lines)
        self.line += 1
        self.cursor += len(line)
        return line

    @staticmethod
    def _split(texts: Iterable[str]) -> Iterator[str]:
        rest = ""
        for text in texts:
            *lines, rest = (rest + text).split("\n")
            for line in lines:
                yield f"{line}\n"
            # A line that does not end must not grow with the file.
            if len(rest) > MAX_LINE_LENGTH:
                yield rest
                rest = ""
        if rest:
            yield rest


def read_pieces(file: BinaryIO) -> Generator[str]:
    """Yield the file's text in pieces of `PIECE_LENGTH`, with LF at the lines' ends.

    Raises:
        BadFile: It is not UTF-8.
    """
    file.seek(0)
    text = io.TextIOWrapper(file, encoding="utf-8-sig")
    try:
        while piece := text.read(PIECE_LENGTH):
            yield piece
    except UnicodeDecodeError:
        raise BadFile("The file is not UTF-8 text: save it as “CSV UTF-8”.") from None
    finally:
        # Dropping the wrapper would close the file, which belongs to the caller.
        text.detach()


def read_header(lines: Lines) -> list[str]:
    """Read the first record: for each column the field of Contact, or an empty text.

    Raises:
        BadFile: It does not name an e-mail column, or names a column twice.
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
            " them must be “email”; “name”, “company” and “phone” are read too."
        )
    if twice := [name for name in FIELDS if columns.count(name) > 1]:
        raise BadFile(f"The first line names the column “{twice[0]}” twice.")
    return columns


def read_rows(lines: Lines, columns: Sequence[str]) -> Iterator[Row]:
    """Yield the records that are left, each as soon as it is read, but no blank lines.

    Args:
        lines: What follows the header, or a later record.
        columns: As `read_header` returned them.
    """
    reader = csv.reader(lines, strict=True)
    while True:
        first = lines.line + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            values, contact, problem = [], None, str(error)
        else:
            if not values:
                continue
            contact, problem = _read_contact(values, columns)
        if problem and lines.line > first:
            problem += f" (the row goes on to line {lines.line})"
        yield Row(first, (lines.line, lines.cursor), contact, problem, values)


def write_rows(rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Yield the lines of a CSV file that is safe to open in a spreadsheet."""
    line = io.StringIO()
    writer = csv.writer(line)
    for row in rows:
        writer.writerow([_harmless(str(value)) for value in row])
        yield line.getvalue()
        line.seek(0)
        line.truncate()


def make_sample(*, rows: int) -> BinaryIO:
    """Make a file to try an import with: made-up people, and some rows that are bad."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(FIELDS)
    for number in range(1, rows + 1):
        first = SAMPLE_FIRST_NAMES[number % len(SAMPLE_FIRST_NAMES)]
        last = SAMPLE_LAST_NAMES[number % len(SAMPLE_LAST_NAMES)]
        company = SAMPLE_COMPANIES[number % len(SAMPLE_COMPANIES)]
        at = "@" if number % SAMPLE_BAD_EVERY else " at "
        email = f"{first}.{last}.{number}{at}example.com".lower()
        writer.writerow([email, f"{first} {last}", company, f"+1 555 {number:06}"])
    return io.BytesIO(text.getvalue().encode())


def _harmless(value: str) -> str:
    """Keep a spreadsheet from taking a text for a formula."""
    return f"'{value}" if value.startswith(tuple("=+-@\t\r")) else value


def _read_contact(
    values: Sequence[str], columns: Sequence[str]
) -> tuple[Contact | None, str]:
    if len(values) > len(columns):
        return None, f"{len(values)} values for {len(columns)} columns"
    if any("\0" in value for value in values):
        return None, "a NUL character"
    fields = {
        column: value.strip()
        for column, value in zip(columns, values, strict=False)
        if column
    }
    # One form, because it is the key.
    fields["email"] = fields.get("email", "").lower()
    contact = Contact(**fields)
    try:
        contact.clean_fields()
    except ValidationError as error:
        problems = error.message_dict.items()
        return None, "; ".join(f"{name}: {' '.join(said)}" for name, said in problems)
    return contact, ""
