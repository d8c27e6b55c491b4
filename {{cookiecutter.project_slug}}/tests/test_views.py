from http import HTTPStatus
from io import BytesIO

import pytest
from django.test import Client
from django.urls import reverse
from procrastinate.contrib.django.models import ProcrastinateJob
from pytest_django import DjangoAssertNumQueries

from users.models import User

from {{ cookiecutter.app_name }} import forms, services
from {{ cookiecutter.app_name }}.models import ContactImport

from .conftest import CsvFile

INDEX = reverse("contacts:index")
IMPORTS = reverse("contacts:imports")


@pytest.fixture
def ann(client: Client, user: User) -> Client:
    """A browser in which the user is logged in."""
    client.force_login(user)
    return client


@pytest.mark.parametrize("url", [INDEX, IMPORTS])
def test_every_page_needs_a_login(client: Client, url: str) -> None:
    response = client.get(url)
    assert response.status_code == HTTPStatus.FOUND
    assert response.headers["Location"].startswith(reverse("login"))


def test_an_upload_starts_an_import(ann: Client, csv_file: CsvFile) -> None:
    response = ann.post(INDEX, {"file": csv_file("email", "a@b.org")}, follow=True)
    assert response.redirect_chain == [(INDEX, HTTPStatus.FOUND)]
    assert b"Waiting" in response.content
    assert b"hx-get" in response.content
    assert ProcrastinateJob.objects.count() == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "The submitted file is empty."),
        (b"\xff", "not UTF-8 text"),
        (b"no header", "The first line must name the columns"),
    ],
)
def test_a_bad_file_is_refused_with_a_sentence(
    ann: Client, content: bytes, reason: str
) -> None:
    response = ann.post(INDEX, {"file": BytesIO(content)})
    assert reason in response.content.decode()
    assert not ContactImport.objects.exists()


def test_a_file_over_the_limit_is_refused_with_a_sentence(
    ann: Client, csv_file: CsvFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forms, "MAX_SIZE", 10)
    response = ann.post(INDEX, {"file": csv_file("email", "a@b.org")})
    assert "The file is 14\xa0bytes; the limit is 10" in response.content.decode()


def test_no_file_is_refused_with_a_sentence(ann: Client) -> None:
    assert b"This field is required." in ann.post(INDEX).content


def test_importing_needs_the_permissions_of_an_upsert(
    ann: Client, user: User, csv_file: CsvFile
) -> None:
    user.user_permissions.filter(codename="change_contact").delete()
    response = ann.post(INDEX, {"file": csv_file("email", "a@b.org")})
    assert response.status_code == HTTPStatus.FORBIDDEN
    assert b"ask an administrator" in ann.get(INDEX).content


def test_imports_are_seen_by_their_owner_alone(
    ann: Client, user: User, csv_file: CsvFile
) -> None:
    services.start_import(
        owner=user, filename="secret.csv", file=csv_file("email", "a@b.org")
    )
    assert b"secret.csv" in ann.get(IMPORTS).content
    ann.force_login(type(user).objects.create_user("bob"))
    assert b"secret.csv" not in ann.get(IMPORTS).content
    assert b"secret.csv" not in ann.get(INDEX).content


def test_the_page_stops_asking_when_nothing_runs(
    ann: Client, user: User, csv_file: CsvFile
) -> None:
    done = services.start_import(owner=user, filename="a", file=csv_file("email"))
    services.import_contacts(import_id=done.pk, should_stop=lambda: False)
    page = ann.get(IMPORTS).content
    assert b"Done" in page
    assert b"hx-get" not in page


def test_polls_load_no_file(
    ann: Client,
    user: User,
    csv_file: CsvFile,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    for _ in range(3):
        services.start_import(owner=user, filename="a", file=csv_file("email"))
    with django_assert_num_queries(3) as queries:
        ann.get(IMPORTS)
    assert not any("importpiece" in q["sql"] for q in queries.captured_queries)
