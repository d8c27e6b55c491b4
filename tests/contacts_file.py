"""CSV files of contacts and the expected results, made without the project's own code."""

import csv
import io
import random
from dataclasses import dataclass, field

NAMES = ["Zoë", "O'Brien", 'Jo "J" Doe', "Łukasz", "李雷", "Ünal, Ü.", "Two\nLines", "🎈"]
BAD_ADDRESSES = ["", "nobody", "a\0b@example.com", "two@@example.com"]

Contact = tuple[str, str, str, str]


@dataclass
class ContactsFile:
    """A file, and the expected result of importing it.

    Args:
        content: The file's bytes.
        contacts: What must be in the database: e-mail, name, company, phone.
        good: How many rows must count as imported.
        bad: The first line of each row that must be rejected.
    """

    content: bytes = b""
    contacts: set[Contact] = field(default_factory=set)
    good: int = 0
    bad: list[int] = field(default_factory=list)


def make_contacts_file(rows: int, prefix: str = "person") -> ContactsFile:
    """Make a file with everything that spreadsheets put into one. It is the same each time.

    It has a byte order mark, columns in unusual order and case, an unknown column, quotes, commas
    and line ends in fields, and letters of many alphabets. Every fiftieth address is there twice,
    and every hundredth row is bad.
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
