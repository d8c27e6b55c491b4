"""Fixtures for all tests. They run on a PostgreSQL as real as the site's."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission
from django.db import connection
from procrastinate.contrib.django.models import ProcrastinateJob

from devdb import server
from users.models import User

CsvFile = Callable[..., BytesIO]
Wait = Callable[[Callable[[], object]], None]
Worker = Callable[..., AbstractContextManager[subprocess.Popen[bytes]]]


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None,
) -> None:
    """Start the development database, on which pytest-django makes the tests' own."""
    if settings.DEVDB:
        server.start(settings.BASE_DIR)


@pytest.fixture
def user(db: None) -> User:
    """A user who may import contacts."""
    user = User.objects.create_user("ann", email="ann@example.com")
    user.user_permissions.set(
        Permission.objects.filter(codename__in=["add_contact", "change_contact"])
    )
    return user


@pytest.fixture
def csv_file() -> CsvFile:
    """Make an open file of lines of text."""

    def make(*lines: str, encoding: str = "utf-8") -> BytesIO:
        return BytesIO("".join(f"{line}\n" for line in lines).encode(encoding))

    return make


@pytest.fixture
def wait_until() -> Wait:
    """Wait for a condition, for 30 seconds at most."""

    def wait(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, "it did not happen within 30 seconds"
            time.sleep(0.05)

    return wait


@pytest.fixture
def worker(transactional_db: None, tmp_path: Path) -> Iterator[Worker]:
    """Start real worker processes on the tests' database; its queue ends empty."""
    database = connection.settings_dict["NAME"]
    url = urlsplit(settings.DATABASE_URL)._replace(path=f"/{database}").geturl()
    command = [sys.executable, "-m", "procrastinate", "--app=tasks.app", "worker"]

    @contextmanager
    def start(*options: str) -> Iterator[subprocess.Popen[bytes]]:
        environment = {**os.environ, "DATABASE_URL": url, "WORKER_DATABASE_URL": url}
        process = subprocess.Popen(
            [*command, *options], cwd=settings.BASE_DIR, env=environment
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)

    yield start
    # Django's flush leaves tables alone that it does not manage.
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {ProcrastinateJob._meta.db_table} CASCADE")
