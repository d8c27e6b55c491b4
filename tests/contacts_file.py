"""CSV files of contacts, and what must become of them, without the project's own reader."""

import csv
import io
import random
from dataclasses import dataclass, field

NAMES = ["Zoë", "O'Brien", 'Jo "J" Doe', "Łukasz", "李雷", "Ünal, Ü.", "Two\nLines", "🎈"]
BAD_ADDRESSES = ["", "nobody", "a\0b@example.com", "two@@example.com"]

Contact = tuple[str, str, str, str]


@dataclass
class ContactsFile:
    """A file, and what must become of it.

    Args:
        content: The file's bytes.
        contacts: What must be in the database: e-mail, name, company, phone.
        good: How many rows must count as imported.
        bad: The lines on which the rows begin that must be rejected.
    """

    content: bytes = b""
    contacts: set[Contact] = field(default_factory=set)
    good: int = 0
    bad: list[int] = field(default_factory=list)


def make_contacts_file(rows: int, prefix: str = "person") -> ContactsFile:
    """Make a file, the same each time, with all that spreadsheets put into one.

    A byte order mark, columns in an order and case of their own, an unknown one, quotes, commas
    and line ends in fields, letters of many alphabets, each fiftieth address twice in a row, and
    each hundredth row a bad one.
    """
    dice = random.Random(rows)
    made = ContactsFile()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    contacts: dict[str, Contact] = {}

    writer.writerow(["Phone", "Shoe size", "EMAIL", " name ", "Company"])
    line = 2
    for number in range(rows):
        start = text.tell()
        if number % 100 == 99:
            made.bad.append(line)
            writer.writerow(["1", "", dice.choice(BAD_ADDRESSES), "Bad", "Row"])
        else:
            made.good += 1
            person = number - number % 50 if number % 50 == 1 else number
            email = f"{prefix}{person}@Example.com"
            phone, name, company = f"+49 {number}", dice.choice(NAMES), dice.choice(NAMES)
            writer.writerow([phone, "?", email, name, company])
            contacts[email.lower()] = (email.lower(), name, company, phone)
        text.seek(start)
        line += text.read().count("\n")

    made.content = b"\xef\xbb\xbf" + text.getvalue().encode()
    made.contacts = set(contacts.values())
    return made
