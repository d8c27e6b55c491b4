"""Steps that several tests of a running project take."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psutil
import psycopg
from browser import Browser, Database
from conftest import Browse, Project, Running, Start, wait_until

DEVELOPMENT = ("honcho", "start", "web", "worker")

# The variables that production needs.
VARIABLES = {
    "SECRET_KEY": "a-key-of-fifty-random-characters-or-more-0123456789",
    "DATABASE_URL": "postgresql://localhost/site",
    "ALLOWED_HOSTS": "127.0.0.1",
    "EMAIL_URL": "smtp://127.0.0.1",
    "TRUSTED_PROXY": "on",
    "WEB_CONCURRENCY": "2",
}
# For what is started without the Procfile, which sets DEBUG: the project's .env says DEBUG=on.
DEPLOYED = VARIABLES | {"DEBUG": "off"}


def database_of(project: Project) -> Database:
    """Return the development database, which must be running."""
    return Database(project.database_url, project.app)


def workers(project: Project) -> list[psutil.Process]:
    """Return the project's worker processes."""
    found = []
    for process in project.processes():
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            if "--app=tasks.app" in process.cmdline() and "uv" not in process.name():
                found.append(process)
    return found


def start_site(project: Project, start: Start, browse: Browse) -> tuple[Running, Browser]:
    """Start the project and log in."""
    running = start(project, *DEVELOPMENT)
    browser = browse(project.port)
    wait_until(lambda: browser.is_up() or running.process.poll() is not None, 60, "the site")
    running.wait_for("Starting worker on all queues", 60)
    browser.log_in_as_developer()
    return running, browser


def press_ctrl_c(running: Running, project: Project) -> None:
    """Press Ctrl-C in honcho, and check that both processes end by themselves."""
    assert running.interrupt() == 130
    assert "SIGKILL" not in running.output
    assert "Traceback" not in running.output
    assert not project.processes()


@contextmanager
def block_import(
    database: Database, person: int, prefix: str = "person"
) -> Iterator[Callable[[], None]]:
    """Block an import at a person of `make_contacts_file`, until the yielded function is called.

    Another transaction has inserted that person, and is not committed.
    """
    with psycopg.connect(database.url) as connection:
        connection.execute(
            f"INSERT INTO {database.app}_contact (email, name, company, phone)"
            f" VALUES ('{prefix}{person}@example.com', '', '', '')"
        )
        yield connection.rollback
        connection.rollback()
