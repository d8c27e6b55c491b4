"""From an upload to contacts, with a real worker."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connections, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from jobs.models import QueuedJob
from jobs.testing import Wait, Worker, drain_queue
from users.models import User

from .. import services, tasks
from ..models import Contact, ContactImport, ImportPiece
from .conftest import CsvFile


def is_done(pk: int) -> bool:
    return ContactImport.objects.filter(pk=pk, summary_sent_at__isnull=False).exists()


def test_an_upload_becomes_contacts(
    worker: Worker, client: Client, user: User, csv_file: CsvFile, wait_until: Wait
) -> None:
    client.force_login(user)
    rows = [f"{n}@b.org,Contact {n}" for n in range(2_000)]
    with worker():
        client.post(reverse("contacts:index"), {"file": csv_file("email,name", *rows)})
        started = ContactImport.objects.get()
        wait_until(lambda: is_done(started.pk))
    found = Contact.objects.values_list("email", "name")
    assert {",".join(pair) for pair in found} == set(rows)


def test_the_worker_sees_a_job_after_the_commit_and_never_after_a_rollback(
    worker: Worker, user: User, csv_file: CsvFile, wait_until: Wait
) -> None:
    def start(name: str) -> ContactImport:
        file = csv_file(f"email,{name}")  # the same file twice would be one import
        return services.start_import(owner=user, filename=name, file=file)

    def overtake() -> None:
        """Defer a later job on another connection, and wait until it is done."""
        try:
            other = start("b")
            wait_until(lambda: is_done(other.pk))
        finally:
            connections.close_all()

    with worker():
        with transaction.atomic():
            start("c")
            transaction.set_rollback(True)
        with transaction.atomic(), ThreadPoolExecutor() as pool:
            first = start("a")
            pool.submit(overtake).result()
        wait_until(lambda: is_done(first.pk))
    assert QueuedJob.objects.get(pk=first.job_id).attempts == 1
    names = QueuedJob.objects.values_list("task_name", flat=True)
    assert sum(name.endswith(".import_contacts") for name in names) == 2


def test_a_stopped_worker_gives_its_job_back(
    worker: Worker, user: User, csv_file: CsvFile, wait_until: Wait
) -> None:
    def stopping() -> bool:
        imported = ContactImport.objects.get(pk=started.pk).imported
        return 0 < imported < 8_000

    file = csv_file("email", *(f"{n}@b.org" for n in range(8_000)))
    started = services.start_import(owner=user, filename="a", file=file)
    with worker("--shutdown-graceful-timeout=0") as process:
        wait_until(stopping)
    assert process.returncode == 0
    assert QueuedJob.objects.get(pk=started.job_id).status == "todo"
    drain_queue()
    assert ContactImport.objects.get(pk=started.pk).imported == 8_000
    assert Contact.objects.count() == 8_000


@pytest.fixture
def old_import(transactional_db: None, user: User, csv_file: CsvFile) -> ContactImport:
    """An import that the nightly clean-up removes."""
    old = services.start_import(owner=user, filename="a", file=csv_file("email"))
    services.cancel_import(import_id=old.pk)
    ContactImport.objects.update(created_at=timezone.now() - timedelta(days=31))
    return old


def test_the_nightly_clean_up_removes_old_imports(old_import: ContactImport) -> None:
    tasks.remove_old_imports.defer(timestamp=0)
    assert drain_queue() == {"cancelled": 1, "succeeded": 1}
    assert not ContactImport.objects.exists()


def test_a_failed_nightly_clean_up_changes_nothing(
    old_import: ContactImport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Because its job is atomic."""

    def fail(*args: object) -> None:
        assert not ContactImport.objects.exists()
        raise KeyError

    monkeypatch.setattr(services, "_remove_texts", fail)
    tasks.remove_old_imports.defer(timestamp=0)
    assert drain_queue(raises=False) == {"cancelled": 1, "failed": 1}
    assert ContactImport.objects.exists()
    assert ImportPiece.objects.exists()
