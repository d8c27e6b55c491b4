"""The service layer, tested without a worker."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import BytesIO

import pytest
from django.core import mail
from django.db import OperationalError, connections
from django.utils import timezone
from pytest_django import Settings

from jobs import upkeep
from jobs.models import QueuedJob
from users.models import User

from .. import services, stored_text
from ..contacts_csv import BadFile
from ..models import (
    Contact,
    ContactImport,
    ImportPiece,
    RejectedRow,
    State,
)
from ..services import AlreadyImporting
from .conftest import CsvFile

Start = Callable[..., ContactImport]


@pytest.fixture
def start(user: User, csv_file: CsvFile) -> Start:
    """Return a function that starts an import of lines."""

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


def set_status(contact_import: ContactImport, status: str) -> None:
    """Set the status of an import's job, as a worker does."""
    QueuedJob.objects.filter(pk=contact_import.job_id).update(status=status)


def prune_jobs(settings: Settings) -> None:
    """Prune all jobs, as the queue does a week after their end."""
    settings.JOBS_KEPT = timedelta(0)
    upkeep.prune()
    assert not QueuedJob.objects.exists()


def fail(*args: object, **kwargs: object) -> None:
    """Fail as if the database were down."""
    raise OperationalError


def state(contact_import: ContactImport) -> State:
    related = ContactImport.objects.select_related("job")
    return related.get(pk=contact_import.pk).state


def contacts() -> list[tuple[str, str]]:
    return list(Contact.objects.order_by("email").values_list("email", "name"))


def test_starting_stores_the_file_and_defers_the_job(start: Start) -> None:
    contact_import = start("email,name", "a@b.org,Ann")
    job = QueuedJob.objects.get(task_name__endswith=".import_contacts")
    assert job.args == {"import_id": contact_import.pk}
    assert contact_import.job_id == job.pk
    assert contact_import.state == "waiting"
    assert b"".join(p.content for p in contact_import.pieces.order_by("number")) == (
        b"email,name\na@b.org,Ann\n"
    )


def test_nothing_of_a_bad_file_is_stored(user: User) -> None:
    file = BytesIO(b"email\n" + b"a@b.org\n" * 100_000 + b"\xff")
    with pytest.raises(BadFile):
        services.start_import(owner=user, filename="a", file=file)
    assert not ContactImport.objects.exists()
    assert not ImportPiece.objects.exists()
    assert not QueuedJob.objects.exists()


def test_an_import_updates_the_fields_in_the_file(start: Start) -> None:
    Contact.objects.create(email="a@b.org", name="Old", phone="1")
    assert run(start("email,name", "A@B.org,New", "c@d.org,Carl"))
    assert contacts() == [("a@b.org", "New"), ("c@d.org", "Carl")]
    assert Contact.objects.get(email="a@b.org").phone == "1"


def test_a_file_may_have_nothing_but_addresses(start: Start) -> None:
    assert run(start("email", "a@b.org"))
    assert contacts() == [("a@b.org", "")]


def test_the_last_of_two_rows_with_one_address_wins(start: Start) -> None:
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


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (",Ann", "email: This field cannot be blank."),
        (f"a@b.org,{'x' * 201}", "name: Ensure this value has at most 200"),
        ("a@b.org,a,b", "3 values for 2 columns"),
        ('bad,"A\nB"', "email: Enter a valid email address."),
        (
            'a@b.org,"' + "x@b.org\n" * 9_000 + '"',
            "name: Ensure this value has at most",
        ),
    ],
)
def test_a_rejected_row_says_why_and_where(
    start: Start, text: str, reason: str
) -> None:
    contact_import = start("email,name", text, "c@d.org,C")
    run(contact_import)
    assert contact_import.rejected_rows.get().reason.startswith(reason)
    assert contacts() == [("c@d.org", "C")]


def test_a_blank_cell_changes_nothing(start: Start) -> None:
    Contact.objects.create(email="a@b.org", name="Ann", company="Acme", phone="1")
    run(start("email,name,company,phone", "a@b.org,,,2", "c@d.org,C", "C@d.org,,D"))
    found = Contact.objects.order_by("email").values_list("name", "company", "phone")
    assert list(found) == [("Ann", "Acme", "2"), ("C", "D", "")]


def test_rejected_rows_are_mended_and_imported(start: Start) -> None:
    contact_import = start("Email;Company;Phone", "bad;@home;+45 1", '"a@b.org;x')
    run(contact_import)
    file = "".join(services.rejected_csv(import_id=contact_import.pk))
    assert file.startswith("\N{BYTE ORDER MARK}line;reason;Email;Company;Phone\r\n")
    assert ";bad;'@home;'+45 1" in file
    mended = start(*file.replace(";bad;", ";c@d.org;").split("\r\n"))
    run(mended)
    assert (mended.imported, mended.rejected) == (1, 1)
    contact = Contact.objects.get()
    assert (contact.company, contact.phone) == ("@home", "+45 1")


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r"])
def test_the_apostrophe_of_rejected_rows_is_taken_off_once(
    start: Start, sign: str
) -> None:
    run(start("line,reason,email,phone", f'2,bad,a@b.org,"\'{sign}1"'))
    run(start("line,reason,email,phone", f"2,bad,c@b.org,\"''{sign}1\""))
    run(start("email,phone", f'd@b.org,"\'{sign}1"'))
    text = f"{sign}1".replace("\r", "\n")
    phones = Contact.objects.order_by("email").values_list("phone", flat=True)
    assert list(phones) == [text.strip(), f"'{text}", f"'{text}"]


def test_an_import_ends_after_too_many_rejected_rows(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "MAX_REJECTED", 2)
    monkeypatch.setattr(services, "CHUNK_ROWS", 2)
    contact_import = start("email", "a@b.org", "1", "2", "3", "4", "c@d.org")
    assert run(contact_import)
    assert contacts() == [("a@b.org", "")]
    assert contact_import.rejected == contact_import.rejected_rows.count() == 3
    assert contact_import.reason == (
        "More than 2 rows were rejected: nothing after line 5 was imported."
    )
    set_status(contact_import, "succeeded")
    assert state(contact_import) == State.FAILED
    assert not contact_import.can_resume
    assert not ImportPiece.objects.exists()
    services.send_summary(import_id=contact_import.pk)
    assert contact_import.reason in mail.outbox[0].body


def test_a_stopped_import_is_resumed_where_it_was(
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


def test_a_file_of_many_pieces_is_resumed_in_any_of_them(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_text, "PIECE_LENGTH", 13)
    monkeypatch.setattr(services, "CHUNK_ROWS", 1)
    contact_import = start("email,name", *(f'{n}@b.org,"é\n{n}"' for n in range(9)))
    while not run(contact_import, chunks=1):
        pass
    assert contacts() == [(f"{n}@b.org", f"é\n{n}") for n in range(9)]
    assert contact_import.imported == 9


def test_a_failing_chunk_changes_nothing(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    contact_import = start("email", "a@b.org", "bad")
    monkeypatch.setattr(RejectedRow.objects, "bulk_create", fail)
    with pytest.raises(OperationalError):
        run(contact_import)
    contact_import.refresh_from_db()
    assert contacts() == []
    assert (contact_import.imported, contact_import.line) == (0, 1)
    assert contact_import.reason == "OperationalError after line 1"


def test_one_of_two_workers_stops(
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
def test_two_imports_at_once_do_not_deadlock(start: Start) -> None:
    def work(contact_import: ContactImport) -> bool:
        try:
            return run(contact_import)
        finally:
            connections.close_all()

    numbers = range(5 * services.CHUNK_ROWS)
    chunks = [
        numbers[n : n + services.CHUNK_ROWS] for n in numbers[:: services.CHUNK_ROWS]
    ]
    forwards = [f"{n}@b.org" for chunk in chunks for n in chunk]
    backwards = [f"{n}@b.org" for chunk in chunks for n in reversed(chunk)]
    imports = [
        start(f"email,{n}", *lines) for n, lines in enumerate(2 * (forwards, backwards))
    ]
    with ThreadPoolExecutor() as pool:
        assert all(pool.map(work, imports))
    assert Contact.objects.count() == len(numbers)


def test_a_finished_import_removes_its_text_and_defers_one_summary(
    start: Start,
) -> None:
    contact_import = start("email", "a@b.org")
    assert run(contact_import)
    assert run(contact_import)
    assert contact_import.state == "done"
    assert not ImportPiece.objects.exists()
    summary = QueuedJob.objects.get(task_name__endswith=".send_summary")
    assert summary.args == {"import_id": contact_import.pk}


def test_the_summary_is_sent_to_the_owner_once(start: Start) -> None:
    contact_import = start("email", "bad", "a@b.org")
    run(contact_import)
    services.send_summary(import_id=contact_import.pk)
    services.send_summary(import_id=contact_import.pk)
    [message] = mail.outbox
    assert message.to == ["ann@example.com"]
    assert message.body == "1 row was imported, and 1 was rejected.\n"


def test_the_summary_has_the_right_plurals(start: Start) -> None:
    contact_import = start("email", "a@b.org", "c@d.org")
    run(contact_import)
    services.send_summary(import_id=contact_import.pk)
    assert mail.outbox[0].body == "2 rows were imported, and 0 were rejected.\n"


def test_the_sample_is_imported_except_for_its_bad_rows(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "SAMPLE_ROWS", 500)
    contact_import = services.start_sample_import(owner=user)
    assert run(contact_import)
    assert (contact_import.imported, contact_import.rejected) == (499, 1)
    assert Contact.objects.count() == 499


def test_the_file_of_an_active_import_is_rejected(start: Start, user: User) -> None:
    contact_import = start("email", "a@b.org")
    for status in ("todo", "doing"):
        set_status(contact_import, status)
        with pytest.raises(AlreadyImporting):
            start("email", "a@b.org")
    assert ContactImport.objects.count() == QueuedJob.objects.count() == 1
    run(contact_import)
    assert start("email", "a@b.org").pk != contact_import.pk


def test_other_owners_may_import_the_same_file(start: Start, csv_file: CsvFile) -> None:
    start("email", "a@b.org")
    bob = User.objects.create_user("bob")
    file = csv_file("email", "a@b.org")
    services.start_import(owner=bob, filename="a", file=file)
    assert ContactImport.objects.count() == 2


def test_uploading_a_file_again_resumes_its_import(start: Start) -> None:
    contact_import = start("email", "a@b.org")
    set_status(contact_import, "failed")
    assert start("email", "a@b.org").pk == contact_import.pk
    assert state(contact_import) == State.WAITING


def test_a_scheduled_import_waits_for_its_time(user: User, csv_file: CsvFile) -> None:
    due = timezone.now() + timedelta(hours=1)
    contact_import = services.start_import(
        owner=user, filename="a", file=csv_file("email"), schedule_at=due
    )
    assert QueuedJob.objects.get().scheduled_at == due
    assert state(contact_import) == State.SCHEDULED
    services.cancel_import(import_id=contact_import.pk)
    assert not ContactImport.objects.select_related("job").get().due_at


def test_cancelling_takes_a_waiting_import_out_of_the_queue(start: Start) -> None:
    contact_import = start("email", "a@b.org")
    services.cancel_import(import_id=contact_import.pk)
    assert state(contact_import) == State.CANCELLED


def test_cancelling_asks_a_running_import_to_stop(start: Start) -> None:
    contact_import = start("email", "a@b.org")
    set_status(contact_import, "doing")
    services.cancel_import(import_id=contact_import.pk)
    assert state(contact_import) == State.STOPPING
    # The status after its worker has stopped, and after its worker was killed.
    for status in ("aborted", "failed"):
        set_status(contact_import, status)
        assert state(contact_import) == State.CANCELLED


def test_cancelling_changes_nothing_after_an_import_has_ended(start: Start) -> None:
    contact_import = start("email", "a@b.org")
    run(contact_import)
    set_status(contact_import, "succeeded")
    services.cancel_import(import_id=contact_import.pk)
    assert state(contact_import) == State.DONE


def test_a_retry_resumes_an_import_where_it_stopped(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "CHUNK_ROWS", 1)
    contact_import = start("email", "a@b.org", "b@b.org")
    run(contact_import, chunks=1)
    set_status(contact_import, "failed")
    assert services.retry_import(import_id=contact_import.pk)
    Contact.objects.all().delete()
    assert run(contact_import)
    assert contacts() == [("b@b.org", "")]
    assert contact_import.imported == 2


def test_an_import_is_never_retried_twice_at_once(start: Start) -> None:
    contact_import = start("email", "a@b.org")
    assert not services.retry_import(import_id=contact_import.pk)
    set_status(contact_import, "failed")
    assert services.retry_import(import_id=contact_import.pk)
    assert not services.retry_import(import_id=contact_import.pk)
    assert QueuedJob.objects.count() == 2


def test_an_import_that_is_done_is_never_retried(start: Start) -> None:
    contact_import = start("email", "a@b.org")
    run(contact_import)
    assert not services.retry_import(import_id=contact_import.pk)


def test_rejected_rows_are_harmless_in_a_spreadsheet(start: Start) -> None:
    contact_import = start("email,name,company", "=1+1,@x,a\0b", '"')
    run(contact_import)
    lines = list(services.rejected_csv(import_id=contact_import.pk))
    assert lines == [
        "\N{BYTE ORDER MARK}",
        "line,reason,email,name,company\r\n",
        "2,email: Enter a valid email address.,'=1+1,'@x,a\N{REPLACEMENT CHARACTER}b\r\n",
        '3,"a cell begins with a quote, but does not end with one",""""\r\n',
    ]


def test_all_rejected_rows_are_downloaded_in_order(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "CHUNK_ROWS", 2)
    contact_import = start("email", *(f"bad{n}" for n in range(5)))
    run(contact_import)
    lines = list(services.rejected_csv(import_id=contact_import.pk))[2:]
    assert [line.split(",")[0] for line in lines] == ["2", "3", "4", "5", "6"]


def test_an_import_knows_how_it_ended_after_its_job_was_pruned(
    start: Start, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, running, failing = (start("email", f"{n}@b.org") for n in range(3))
    services.cancel_import(import_id=waiting.pk)
    assert not run(running, chunks=0)
    set_status(running, "aborted")
    services.cancel_import(import_id=failing.pk)
    services.retry_import(import_id=failing.pk)
    monkeypatch.setattr(Contact.objects, "bulk_create", fail)
    with pytest.raises(OperationalError):
        run(failing)
    failing.refresh_from_db()
    set_status(failing, "failed")
    prune_jobs(settings)
    assert state(waiting) == State.CANCELLED
    assert state(running) == State.CANCELLED
    assert state(failing) == State.FAILED


def test_the_nightly_clean_up_records_how_jobs_ended(
    start: Start, settings: Settings
) -> None:
    """They were cancelled in the admin, or their worker was killed."""
    cancelled, stopping, asked = (start("email", f"{n}@b.org") for n in range(3))
    set_status(cancelled, "cancelled")
    assert not run(stopping, chunks=0)
    set_status(stopping, "failed")
    set_status(asked, "doing")
    services.cancel_import(import_id=asked.pk)
    set_status(asked, "failed")
    services.remove_old_imports()
    prune_jobs(settings)
    assert state(cancelled) == State.CANCELLED
    assert state(stopping) == State.FAILED
    assert state(asked) == State.CANCELLED


@pytest.mark.parametrize(
    ("days", "status", "kept", "text"),
    [
        (6, "failed", True, True),
        (8, "failed", True, False),
        (8, "todo", True, True),
        (29, "cancelled", True, False),
        (31, "failed", False, False),
        (31, "doing", True, True),
    ],
)
def test_old_imports_are_removed_and_their_texts_earlier(
    start: Start, days: int, status: str, kept: bool, text: bool
) -> None:
    contact_import = start("email", "bad")
    set_status(contact_import, status)
    ContactImport.objects.update(created_at=timezone.now() - timedelta(days=days))
    services.remove_old_imports()
    assert ContactImport.objects.exists() == kept
    assert ImportPiece.objects.exists() == text
    if kept and not text:
        assert not services.retry_import(import_id=contact_import.pk)


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("", ["a@b.org", "b@b.org", "c@b.org"]),
        ("B@", ["b@b.org"]),
        ("an", ["b@b.org"]),
        ("acme", ["a@b.org", "c@b.org"]),
        ("%", []),
    ],
)
def test_contacts_are_found_by_prefix(db: None, search: str, found: list[str]) -> None:
    Contact.objects.create(email="c@b.org", company="Acme")
    Contact.objects.create(email="b@b.org", name="Ann")
    Contact.objects.create(email="a@b.org", company="ACME Ltd.")
    contacts = services.find_contacts(search=search)
    assert [contact.email for contact in contacts] == found


def test_a_search_finds_the_first_of_each_field(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "SEARCH_ROWS", 1)
    Contact.objects.create(email="a@b.org", company="Ann Ltd.")
    Contact.objects.create(email="b@b.org", company="ANN")
    Contact.objects.create(email="ann@b.org")
    contacts = services.find_contacts(search="ann")
    assert [contact.email for contact in contacts] == ["ann@b.org", "b@b.org"]


def test_a_page_of_contacts_begins_after_the_previous_page(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "PAGE_ROWS", 2)
    Contact.objects.bulk_create(Contact(email=f"{n}@b.org") for n in range(5))
    contacts = services.find_contacts(after="1@b.org")
    assert [contact.email for contact in contacts] == ["2@b.org", "3@b.org", "4@b.org"]
