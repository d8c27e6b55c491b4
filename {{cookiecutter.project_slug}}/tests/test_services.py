"""The service layer, tested without a worker."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import pytest
from django.core import mail
from django.db import OperationalError, connections
from procrastinate.contrib.django.models import ProcrastinateJob

from users.models import User

from {{ cookiecutter.app_name }} import contacts_csv, services
from {{ cookiecutter.app_name }}.contacts_csv import BadFile
from {{ cookiecutter.app_name }}.models import (
    Contact,
    ContactImport,
    ImportPiece,
    RejectedRow,
)

from .conftest import CsvFile

Start = Callable[..., ContactImport]


@pytest.fixture
def start(user: User, csv_file: CsvFile) -> Start:
    """Start an import of lines."""

    def make(*lines: str) -> ContactImport:
        return services.start_import(owner=user, filename="a", file=csv_file(*lines))

    return make


def run(contact_import: ContactImport, chunks: int = -1) -> bool:
    """Import a number of chunks, or all."""
    left = iter(range(chunks)) if chunks >= 0 else None
    stop = (lambda: next(left, None) is None) if left else (lambda: False)
    done = services.import_contacts(import_id=contact_import.pk, should_stop=stop)
    contact_import.refresh_from_db()
    return done


def contacts() -> list[tuple[str, str]]:
    return list(Contact.objects.order_by("email").values_list("email", "name"))


def test_starting_stores_the_file_and_defers_the_job(start: Start) -> None:
    contact_import = start("email,name", "a@b.org,Ann")
    job = ProcrastinateJob.objects.get(task_name__endswith=".import_contacts")
    assert job.args == {"import_id": contact_import.pk}
    assert contact_import.job_id == job.pk
    assert contact_import.state == "waiting"
    assert b"".join(p.content for p in contact_import.pieces.order_by("number")) == (
        b"email,name\na@b.org,Ann\n"
    )


def test_a_bad_file_leaves_nothing_behind(user: User) -> None:
    file = BytesIO(b"email\n" + b"a@b.org\n" * 100_000 + b"\xff")
    with pytest.raises(BadFile):
        services.start_import(owner=user, filename="a", file=file)
    assert not ContactImport.objects.exists()
    assert not ImportPiece.objects.exists()
    assert not ProcrastinateJob.objects.exists()


def test_pieces_hold_a_megabyte_at_most(start: Start) -> None:
    contact_import = start("email,name", *["a@b.org," + "𝄞" * 190] * 2_000)
    sizes = [len(piece.content) for piece in contact_import.pieces.all()]
    assert len(sizes) > 1
    assert max(sizes) <= 1_000_000


def test_an_import_updates_what_the_file_names(start: Start) -> None:
    Contact.objects.create(email="a@b.org", name="Old", phone="1")
    assert run(start("email,name", "A@B.org,New", "c@d.org,Carl"))
    assert contacts() == [("a@b.org", "New"), ("c@d.org", "Carl")]
    assert Contact.objects.get(email="a@b.org").phone == "1"


def test_a_file_may_name_nothing_but_addresses(start: Start) -> None:
    assert run(start("email", "a@b.org"))
    assert contacts() == [("a@b.org", "")]


def test_of_two_rows_with_one_address_the_last_wins(start: Start) -> None:
    contact_import = start("email,name", "a@b.org,1", "a@b.org,2")
    run(contact_import)
    assert contacts() == [("a@b.org", "2")]
    assert contact_import.imported == 2


def test_bad_rows_are_counted_with_line_and_reason(start: Start) -> None:
    contact_import = start("email", "bad", "a@b.org")
    run(contact_import)
    assert (contact_import.imported, contact_import.rejected) == (1, 1)
    [row] = contact_import.rejected_rows.all()
    assert (row.line, row.reason) == (2, "email: Enter a valid email address.")


def test_a_stopped_import_goes_on_where_it_was(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "CHUNK_ROWS", 2)
    contact_import = start("email", *(f"{n}@b.org" for n in range(5)), "bad")
    assert not run(contact_import, chunks=1)
    assert (contact_import.imported, contact_import.line) == (2, 3)
    assert not run(contact_import, chunks=0)
    Contact.objects.all().delete()
    assert run(contact_import)
    assert contacts() == [("2@b.org", ""), ("3@b.org", ""), ("4@b.org", "")]
    assert (contact_import.imported, contact_import.rejected) == (5, 1)


def test_a_file_of_many_pieces_goes_on_in_any_of_them(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (services, contacts_csv):
        monkeypatch.setattr(module, "PIECE_LENGTH", 13)
    monkeypatch.setattr(services, "CHUNK_ROWS", 1)
    contact_import = start("email,name", *(f'{n}@b.org,"é\n{n}"' for n in range(9)))
    while not run(contact_import, chunks=1):
        pass
    assert contacts() == [(f"{n}@b.org", f"é\n{n}") for n in range(9)]
    assert contact_import.imported == 9


def test_a_failing_chunk_changes_nothing(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OperationalError

    contact_import = start("email", "a@b.org", "bad")
    monkeypatch.setattr(RejectedRow.objects, "bulk_create", fail)
    with pytest.raises(OperationalError):
        run(contact_import)
    contact_import.refresh_from_db()
    assert contacts() == []
    assert (contact_import.imported, contact_import.line) == (0, 1)
    assert contact_import.reason == "OperationalError after line 1"


def test_of_two_workers_one_gives_way(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "CHUNK_ROWS", 1)
    contact_import = start("email", "a@b.org", "b@b.org")
    other_done: list[bool] = []

    def other_first() -> bool:
        if not other_done:
            other_done.append(run(contact_import))
        return False

    services.import_contacts(import_id=contact_import.pk, should_stop=other_first)
    contact_import.refresh_from_db()
    assert contact_import.imported == 2


@pytest.mark.django_db(transaction=True)
def test_two_imports_at_once_do_not_lock_each_other_out(start: Start) -> None:
    def work(contact_import: ContactImport) -> bool:
        try:
            return run(contact_import)
        finally:
            connections.close_all()

    numbers = range(20 * services.CHUNK_ROWS)
    chunks = [
        numbers[n : n + services.CHUNK_ROWS] for n in numbers[:: services.CHUNK_ROWS]
    ]
    forwards = [f"{n}@b.org" for chunk in chunks for n in chunk]
    backwards = [f"{n}@b.org" for chunk in chunks for n in reversed(chunk)]
    imports = [start("email", *lines) for lines in 2 * (forwards, backwards)]
    with ThreadPoolExecutor() as pool:
        assert all(pool.map(work, imports))
    assert Contact.objects.count() == len(numbers)
    ProcrastinateJob.objects.all()._raw_delete("default")


def test_the_end_removes_the_file_and_defers_one_summary(start: Start) -> None:
    contact_import = start("email", "a@b.org")
    assert run(contact_import)
    assert run(contact_import)
    assert contact_import.state == "done"
    assert not ImportPiece.objects.exists()
    summary = ProcrastinateJob.objects.get(task_name__endswith=".send_summary")
    assert summary.args == {"import_id": contact_import.pk}


def test_the_summary_is_sent_to_the_owner_once(start: Start) -> None:
    contact_import = start("email", "bad", "a@b.org")
    run(contact_import)
    services.send_summary(import_id=contact_import.pk)
    services.send_summary(import_id=contact_import.pk)
    [message] = mail.outbox
    assert message.to == ["ann@example.com"]
    assert message.body == "1 rows were imported, and 1 rejected.\n"
