"""Imports files; run inside a rendered project.

Each line of the input is a file, in hexadecimal. For each, one line of JSON says what became of
it, and what is in the download of its rejected rows.
"""

import json
import sys
import traceback
from io import BytesIO

import django
from django.db import transaction

django.setup()

from django.apps import apps
from users.models import User

config = apps.get_app_config(next(a.label for a in apps.get_app_configs() if hasattr(a, "nav")))
services = __import__(f"{config.name}.services", fromlist=["services"])
csv = services.contacts_csv
Contact, ContactImport = services.Contact, services.ContactImport


def run(content: bytes) -> dict[str, object]:
    owner = User.objects.get_or_create(username="importer")[0]
    services.CHUNK_ROWS = 3
    try:
        one = services.start_import(owner=owner, filename="a", file=BytesIO(content))
    except csv.BadFile as error:
        return {"error": "", "bad": str(error)}
    rows = csv.RowReader(
        services.stored_text.read(one), one.columns, one.delimiter, one.line, one.cursor
    ).read_chunk(rows=1_000)
    while not services.import_contacts(import_id=one.pk, should_stop=iter([False, True]).__next__):
        pass
    one.refresh_from_db()
    rejected = list(one.rejected_rows.order_by("line"))
    file = "".join(services.rejected_csv(import_id=one.pk)).encode()
    again = []
    if rejected:
        text = file.decode("utf-8-sig").replace("\r\n", "\n")
        header = csv.RowReader.after_header(iter([text]))
        rest = csv.RowReader(iter([text[header.cursor :]]), header.names, header.delimiter, 0, 0)
        again = [row.values[2:] for row in rest.read_chunk(rows=1_000)]
    return {
        "error": "",
        "bad": "",
        "rows": len(rows),
        "imported": one.imported,
        "rejected": one.rejected,
        "lines": [row.line for row in rejected],
        "values": [row.values for row in rejected],
        "again": again,
        "contacts": Contact.objects.count(),
    }


for line in sys.stdin:
    try:
        with transaction.atomic():
            done = run(bytes.fromhex(line))
            transaction.set_rollback(True)
    except Exception:  # noqa: BLE001 - the test shows it
        done = {"error": traceback.format_exc()}
    print(json.dumps(done), flush=True)
