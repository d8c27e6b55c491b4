"""Requests to the site as a user makes them, and queries to its database."""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg
from psycopg.rows import dict_row

TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="(\w+)"')
PROGRESS = re.compile(r'<progress value="(\d+)"')


class Proxy(httpx.HTTPTransport):
    """A proxy that terminates TLS in front of the site."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        forwarded = httpx.Request(
            request.method,
            request.url.copy_with(scheme="http"),
            headers={**request.headers, "X-Forwarded-Proto": "https"},
            stream=request.stream,
            extensions=request.extensions,
        )
        return super().handle_request(forwarded)


class Browser:
    """A browser without a screen.

    Args:
        port: The port of the site on this machine.
        proxy: Whether to use HTTPS, through a proxy.
    """

    def __init__(self, port: int, *, proxy: bool = False) -> None:
        self.client = httpx.Client(
            base_url=f"{'https' if proxy else 'http'}://127.0.0.1:{port}",
            transport=Proxy() if proxy else None,
            follow_redirects=True,
            timeout=30,
        )

    def get(self, path: str) -> str:
        """Return a page's text."""
        response = self.client.get(path)
        response.raise_for_status()
        return html.unescape(response.text)

    def submit(self, page: str, path: str, **form: Any) -> str:
        """Submit a form of a page, and return the next page."""
        files = {
            name: form.pop(name) for name, value in form.copy().items() if type(value) is tuple
        }
        token = TOKEN.search(self.client.get(page).text)
        assert token, f"{page} has no form"
        response = self.client.post(
            path,
            data={"csrfmiddlewaretoken": token[1], **form},
            files=files or None,
            headers={"Referer": str(self.client.base_url)},
        )
        response.raise_for_status()
        return html.unescape(response.text)

    def is_up(self) -> bool:
        """Tell if the site answers."""
        try:
            return self.client.get("/accounts/login/").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def log_in_as_developer(self) -> None:
        """Press the button that only development has."""
        assert "Import contacts" in self.submit("/accounts/login/", "/accounts/login/developer/")

    def log_in(self, username: str, password: str) -> None:
        """Log in as everybody does."""
        page = self.submit(
            "/accounts/login/", "/accounts/login/", username=username, password=password
        )
        assert "Import contacts" in page

    def upload(self, filename: str, content: bytes) -> None:
        """Import a file of contacts."""
        assert filename in self.submit("/", "/", file=(filename, content, "text/csv"))

    def progress(self) -> int | None:
        """Return the progress of the running import, from 0 to 100, or None."""
        found = PROGRESS.search(self.get("/imports/"))
        return int(found[1]) if found else None


@dataclass
class Database:
    """The database of the site.

    Args:
        url: Its address.
        app: The name of the app, with which its tables begin.
    """

    url: str
    app: str

    def query(self, statement: str, arguments: Sequence[object] = ()) -> list[dict[str, Any]]:
        """Return the rows of a query, in which ``app_`` is replaced by the prefix of the tables."""
        statement = re.sub(r"\bapp_", f"{self.app}_", statement)
        with psycopg.connect(self.url, row_factory=dict_row) as connection:
            return connection.execute(statement, arguments).fetchall()

    def execute(self, statement: str) -> None:
        """Run a statement that returns no rows."""
        with psycopg.connect(self.url) as connection:
            connection.execute(statement)

    def contacts(self) -> set[tuple[str, ...]]:
        """Return all contacts: e-mail, name, company, phone."""
        rows = self.query("SELECT email, name, company, phone FROM app_contact")
        return {tuple(row.values()) for row in rows}

    def last_import(self) -> dict[str, Any]:
        """Return the import that was started last, with its job."""
        (row,) = self.query(
            "SELECT i.*, j.status, j.worker_id, j.attempts"
            " FROM app_contactimport i LEFT JOIN procrastinate_jobs j ON j.id = i.job_id"
            " ORDER BY i.id DESC LIMIT 1"
        )
        return row

    def blocked(self) -> int:
        """Return how many transactions wait for another one to end."""
        return len(self.query("SELECT 1 FROM pg_locks WHERE NOT granted"))
