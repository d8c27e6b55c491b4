from datetime import timedelta
from http import HTTPStatus
from io import BytesIO
from zoneinfo import ZoneInfo

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from jobs.models import QueuedJob
from users.models import User

from .. import forms, services
from ..models import Contact, ContactImport
from .conftest import CsvFile

INDEX = reverse("contacts:index")
IMPORTS = reverse("contacts:imports")
SAMPLE = reverse("contacts:sample")
CONTACTS = reverse("contacts:contacts")


@pytest.fixture
def ann(client: Client, user: User) -> Client:
    """A browser in which the user is logged in."""
    client.force_login(user)
    return client


@pytest.mark.parametrize("url", [INDEX, IMPORTS, SAMPLE, CONTACTS])
def test_every_page_needs_a_login(client: Client, url: str) -> None:
    response = client.get(url)
    assert response.status_code == HTTPStatus.FOUND
    assert response.headers["Location"].startswith(reverse("login"))


def test_other_pages_link_to_imports_and_contacts(ann: Client) -> None:
    page = ann.get(reverse("password_change")).content.decode()
    for url in (INDEX, CONTACTS):
        assert f'<a href="{url}">' in page


def test_an_upload_starts_an_import(ann: Client, csv_file: CsvFile) -> None:
    response = ann.post(INDEX, {"file": csv_file("email", "a@b.org")}, follow=True)
    assert response.redirect_chain == [(INDEX, HTTPStatus.FOUND)]
    assert b"Waiting" in response.content
    assert b"hx-get" in response.content
    assert QueuedJob.objects.count() == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "The submitted file is empty."),
        (b"\xff", "neither UTF-8 nor UTF-16"),
        (b"no header", "lines must name the columns"),
    ],
)
def test_a_bad_file_is_rejected_with_a_reason(
    ann: Client, content: bytes, reason: str
) -> None:
    response = ann.post(INDEX, {"file": BytesIO(content)})
    assert reason in response.content.decode()
    assert not ContactImport.objects.exists()


def test_a_file_over_the_limit_is_rejected_with_a_reason(
    ann: Client, csv_file: CsvFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forms, "MAX_SIZE", 10)
    response = ann.post(INDEX, {"file": csv_file("email", "a@b.org")})
    assert "The file is 14\xa0bytes; the limit is 10" in response.content.decode()


def test_a_form_without_a_file_is_rejected(ann: Client) -> None:
    assert b"This field is required." in ann.post(INDEX).content


def test_importing_needs_the_permissions_to_add_and_to_change(
    ann: Client, user: User, csv_file: CsvFile
) -> None:
    user.user_permissions.filter(codename="change_contact").delete()
    response = ann.post(INDEX, {"file": csv_file("email", "a@b.org")})
    assert response.status_code == HTTPStatus.FORBIDDEN
    assert b"ask an administrator" in ann.get(INDEX).content


def test_imports_are_seen_only_by_their_owner(
    ann: Client, user: User, csv_file: CsvFile
) -> None:
    services.start_import(
        owner=user, filename="secret.csv", file=csv_file("email", "a@b.org")
    )
    assert b"secret.csv" in ann.get(IMPORTS).content
    ann.force_login(type(user).objects.create_user("bob"))
    assert b"secret.csv" not in ann.get(IMPORTS).content
    assert b"secret.csv" not in ann.get(INDEX).content


def test_the_page_stops_polling_when_nothing_runs(
    ann: Client, user: User, csv_file: CsvFile
) -> None:
    done = services.start_import(owner=user, filename="a", file=csv_file("email"))
    services.import_contacts(import_id=done.pk, should_stop=lambda: False)
    page = ann.get(IMPORTS).content
    assert b"Done" in page
    assert b"hx-get" not in page


def test_polling_loads_no_file(
    ann: Client,
    user: User,
    csv_file: CsvFile,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    for number in range(3):
        file = csv_file("email", f"{number}@b.org")
        services.start_import(owner=user, filename="a", file=file)
    with django_assert_num_queries(4) as queries:
        ann.get(IMPORTS)
    assert not any("importpiece" in q["sql"] for q in queries.captured_queries)


def test_the_page_says_how_large_the_sample_is(ann: Client) -> None:
    text = f"Try {services.SAMPLE_ROWS:,} sample contacts"
    assert text in ann.get(INDEX).content.decode()


def test_an_import_shows_progress_only_after_its_start(
    ann: Client, user: User, csv_file: CsvFile
) -> None:
    def shown(status: str) -> list[bool]:
        QueuedJob.objects.all().update(status=status)
        page = ann.get(IMPORTS).content.decode()
        return ["<progress" in page, "rows imported" in page]

    file = csv_file("email", "a@b.org")
    due = timezone.now() + timedelta(days=1)
    services.start_import(owner=user, filename="a", file=file, schedule_at=due)
    assert shown("todo") == [False, False]
    QueuedJob.objects.all().update(scheduled_at=None)
    assert shown("todo") == [False, False]
    assert shown("doing") == [True, True]


def test_the_same_file_again_goes_on_and_comes_first(
    ann: Client, csv_file: CsvFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "CHUNK_ROWS", 1)

    def send(*lines: str) -> str:
        file = csv_file("email", *lines)
        return ann.post(INDEX, {"file": file}, follow=True).content.decode()

    long = ("a@b.org", "c@d.org", "e@f.org")
    assert "goes on" not in send(*long)
    first = ContactImport.objects.get().pk
    stops = iter([False, True])
    services.import_contacts(import_id=first, should_stop=lambda: next(stops))
    QueuedJob.objects.all().update(status="cancelled")
    page = send("other@b.org")
    second = f"import-{ContactImport.objects.latest('pk').pk}"
    assert page.index(second) < page.index(f"import-{first}")
    page = send(*long)
    assert "goes on where it stopped, after line 2." in page
    assert page.index(f"import-{first}") < page.index(second)


def test_the_same_file_twice_is_rejected_with_a_reason(
    ann: Client, csv_file: CsvFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "SAMPLE_ROWS", 500)
    ann.post(INDEX, {"file": csv_file("email", "a@b.org")})
    response = ann.post(INDEX, {"file": csv_file("email", "a@b.org")})
    assert b"This file is already being imported" in response.content
    ann.post(SAMPLE)
    response = ann.post(SAMPLE, follow=True)
    assert b"sample contacts are already being imported" in response.content
    assert QueuedJob.objects.count() == 2


@pytest.mark.parametrize(
    ("cookie", "zone"),
    [("Asia/Tokyo", "Asia/Tokyo"), ("", "UTC"), ("Asia", "UTC"), ("../x", "UTC")],
)
def test_an_import_is_scheduled_in_the_browsers_time_zone(
    ann: Client, csv_file: CsvFile, cookie: str, zone: str
) -> None:
    ann.cookies["timezone"] = cookie
    assert f"Start at ({zone})" in ann.get(INDEX).content.decode()
    due = (timezone.now() + timedelta(days=1)).replace(second=0, microsecond=0)
    local = due.astimezone(ZoneInfo(zone))
    form = {"file": csv_file("email"), "schedule_at": f"{local:%Y-%m-%dT%H:%M}"}
    page = ann.post(INDEX, form, follow=True).content.decode()
    assert "Scheduled" in page
    assert f"{local:%H:%M %Z}</time>" in page
    assert QueuedJob.objects.get().scheduled_at == due


@pytest.mark.parametrize("days", [-1, 400])
def test_a_time_in_the_past_or_far_future_is_rejected(
    ann: Client, csv_file: CsvFile, days: int
) -> None:
    typed = (timezone.now() + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M")
    form = {"file": csv_file("email"), "schedule_at": typed}
    assert b"Choose a time" in ann.post(INDEX, form).content
    assert not ContactImport.objects.exists()


@pytest.mark.parametrize("action", ["cancel", "retry", "rejected"])
def test_the_imports_of_others_are_not_found(
    ann: Client, csv_file: CsvFile, action: str
) -> None:
    bob = User.objects.create_user("bob")
    file = csv_file("email", "a@b.org")
    other = services.start_import(owner=bob, filename="a", file=file)
    url = reverse(f"contacts:{action}", args=[other.pk])
    response = ann.get(url) if action == "rejected" else ann.post(url)
    assert response.status_code == HTTPStatus.NOT_FOUND


def test_an_import_is_cancelled_and_resumed(ann: Client, csv_file: CsvFile) -> None:
    ann.post(INDEX, {"file": csv_file("email", "a@b.org")})
    pk = ContactImport.objects.get().pk
    page = ann.post(reverse("contacts:cancel", args=[pk]), follow=True).content
    assert b"Cancelled" in page
    assert b"hx-get" not in page
    page = ann.post(reverse("contacts:retry", args=[pk]), follow=True).content
    assert b"Waiting for a worker" in page
    assert b"No worker is running" in page


def test_rejected_rows_are_downloaded(ann: Client, csv_file: CsvFile) -> None:
    ann.post(INDEX, {"file": csv_file("email", "bad")})
    pk = ContactImport.objects.get().pk
    services.import_contacts(import_id=pk, should_stop=lambda: False)
    url = reverse("contacts:rejected", args=[pk])
    assert url in ann.get(INDEX).content.decode()
    response = ann.get(url)
    assert response.headers["Content-Disposition"].endswith('.csv"')
    assert b"2,email: Enter a valid email address.,bad" in b"".join(response)


def test_columns_that_are_not_imported_are_named(
    ann: Client, csv_file: CsvFile
) -> None:
    ann.post(INDEX, {"file": csv_file("email,Lead <b>Status</b>,,Name,Owner")})
    page = ann.get(INDEX).content.decode()
    assert "Not imported: Lead &lt;b&gt;Status&lt;/b&gt;, Owner" in page


def test_contacts_are_listed_page_by_page(
    ann: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "PAGE_ROWS", 1)
    for email in ("a&b@b.org", "c@b.org"):
        Contact.objects.create(email=email, name="Ann")
    page = ann.get(CONTACTS, {"search": "ann"}).content
    assert b"a&amp;b@b.org" in page
    assert b"?search=ann&amp;after=a%26b%40b.org" in page
    page = ann.get(CONTACTS, {"search": "ann", "after": "a&b@b.org"}).content
    assert b"c@b.org" in page
    assert b"Next page" not in page


@pytest.mark.parametrize("search", ["nobody", "a\0b"])
def test_a_search_without_results_shows_an_empty_page(ann: Client, search: str) -> None:
    response = ann.get(CONTACTS, {"search": search})
    assert response.status_code == HTTPStatus.OK
    assert b"<table" not in response.content


@pytest.mark.parametrize("url", [INDEX, IMPORTS, CONTACTS])
def test_pages_answer_to_head_and_are_not_cached(ann: Client, url: str) -> None:
    response = ann.head(url)
    assert response.status_code == HTTPStatus.OK
    assert "no-store" in response.headers["Cache-Control"]


def test_listing_contacts_needs_a_permission(ann: Client, user: User) -> None:
    user.user_permissions.clear()
    assert ann.get(CONTACTS).status_code == HTTPStatus.FORBIDDEN
