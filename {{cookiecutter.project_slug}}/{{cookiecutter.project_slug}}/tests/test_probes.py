"""Health checks: who may call them, and what they report."""

from typing import Any

import pytest
from django.contrib.staticfiles.finders import get_finders
from django.contrib.staticfiles.storage import staticfiles_storage
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.db.utils import OperationalError
from django.test import Client
from pytest_django import Settings

from jobs import stats, upstream

from .. import probes

Migration = MigrationRecorder.Migration


def health(client: Client, probe: str, **extra: Any) -> tuple[int, str]:
    response = client.get(f"/health/{probe}", **extra)
    return response.status_code, response.content.decode()


def test_live_does_not_need_the_database(client: Client) -> None:
    """Without the django_db mark, any query would fail."""
    assert health(client, "live") == (200, "ok")


def test_probes_need_no_tls_no_login_and_no_allowed_host(
    client: Client, settings: Settings
) -> None:
    settings.SECURE_SSL_REDIRECT = True
    settings.ALLOWED_HOSTS = ["www.example.com"]
    assert health(client, "live", headers={"host": "10.0.0.1:8000"}) == (200, "ok")


@pytest.mark.django_db
def test_ready_when_migrated(client: Client) -> None:
    assert health(client, "ready") == (200, "ok")
    Migration.objects.filter(app="jobs").delete()
    assert health(client, "ready") == (503, "unavailable: migrations are missing")


@pytest.mark.django_db
def test_ready_although_a_post_migration_is_missing(client: Client) -> None:
    last = Migration.objects.filter(app="procrastinate").latest("name")
    assert "_post_" in last.name
    last.delete()
    assert health(client, "ready") == (200, "ok")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("manifest", "answer"),
    [
        ({}, (503, "unavailable: static files are missing")),
        ({"site.css": "site.1.css"}, (503, "unavailable: static files are missing")),
        ("all", (200, "ok")),
    ],
)
def test_not_ready_before_static_files_are_collected(
    client: Client,
    manifest: Any,
    answer: tuple[int, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if manifest == "all":
        found = [name for finder in get_finders() for name, _ in finder.list([])]
        manifest = dict.fromkeys(found, "")
    monkeypatch.setattr(staticfiles_storage, "hashed_files", manifest, raising=False)
    probes.static_files_are_missing.cache_clear()
    assert health(client, "ready") == answer
    probes.static_files_are_missing.cache_clear()


@pytest.mark.django_db
def test_not_ready_while_nothing_can_be_written(client: Client) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION READ ONLY")
    assert health(client, "ready") == (503, "unavailable: the database is read-only")


@pytest.mark.django_db
def test_not_ready_without_a_database(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> str:
        raise OperationalError

    monkeypatch.setitem(probes.PROBES, "/health/ready", fail)
    problem = "the database does not answer"
    assert health(client, "ready") == (503, f"unavailable: {problem}")
    assert f"/health/ready: {problem}" in caplog.messages


@pytest.mark.django_db
def test_workers_are_healthy_when_one_is_alive(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert health(client, "workers") == (503, "unavailable: no worker is alive")
    with connection.cursor() as cursor:
        cursor.execute(upstream.REGISTER_WORKER)
    assert health(client, "workers") == (200, "ok")
    monkeypatch.setattr(stats.Queue, "late", True)
    assert health(client, "workers") == (503, "unavailable: a queue is late")
