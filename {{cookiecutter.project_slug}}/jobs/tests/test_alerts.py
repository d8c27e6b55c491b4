"""Who is told of problems, how often, and what happens if that fails."""

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Barrier, Thread
from typing import Any

import pytest
from django.core import mail
from django.db import connections
from django.db.models import F
from pytest_django import Settings

from .. import alerts, upkeep
from ..models import Alert

LATE = {"late mail": "Queue mail: a job has waited for 0:06:00"}
SLOW = {"slow 7": "Job ship[7] has run for 1:00:00, over ten times as long as usual"}


class Webhook:
    """A server that keeps what it is told. It answers with ``status``."""

    def __init__(self) -> None:
        self.received: list[tuple[str, str]] = []
        self.status = 200
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert self.headers["Content-Type"] == "application/json"
                webhook.received.append((self.path, body["text"]))
                self.send_response(webhook.status)
                self.send_header("Location", "/login")
                self.end_headers()

            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: Any, **kwargs: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/secret"


@pytest.fixture
def webhook(settings: Settings) -> Iterator[Webhook]:
    """A webhook that is told of problems."""
    made = Webhook()
    Thread(target=made.server.serve_forever, args=[0.01]).start()
    settings.JOBS_ALERTS_TO = made.url
    settings.EMAIL_SUBJECT_PREFIX = "[site] "
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def addresses(settings: Settings) -> None:
    """Two addresses that are told of problems."""
    settings.JOBS_ALERTS_TO = "ann@example.com, ben@example.com"
    settings.EMAIL_SUBJECT_PREFIX = "[site] "


def wait(minutes: int) -> None:
    """Let time pass."""
    passed = timedelta(minutes=minutes)
    Alert.objects.update(
        told_at=F("told_at") - passed, claimed_at=F("claimed_at") - passed
    )


@pytest.mark.usefixtures("db", "addresses")
def test_people_are_told_once_an_hour_and_when_it_is_over() -> None:
    def subjects() -> list[str]:
        found = [str(message.subject) for message in mail.outbox]
        mail.outbox.clear()
        return found

    alerts.tell({})
    assert subjects() == []
    alerts.tell(LATE)
    (message,) = mail.outbox
    assert message.to == ["ann@example.com", "ben@example.com"]
    assert message.subject == f"[site] {LATE['late mail']}"
    assert message.body.startswith(LATE["late mail"])
    mail.outbox.clear()
    for _ in range(59):
        wait(1)
        alerts.tell({"late mail": "Queue mail: a job has waited for 0:50:00"})
    assert subjects() == []
    alerts.tell(LATE | SLOW)
    assert subjects() == [f"[site] {SLOW['slow 7']}"]
    wait(1)
    alerts.tell(LATE | SLOW)
    assert subjects() == [f"[site] {LATE['late mail']}"]
    alerts.tell({})
    assert subjects() == [f"[site] Over: {LATE['late mail']} (and 1 more)"]
    alerts.tell({})
    assert subjects() == []


@pytest.mark.usefixtures("db", "addresses")
def test_a_problem_that_comes_and_goes_is_told_once_an_hour() -> None:
    for _ in range(50):
        alerts.tell(LATE)
        alerts.tell({})
        wait(1)
    assert len(mail.outbox) == 2
    wait(11)
    alerts.tell({})
    assert not Alert.objects.exists()
    alerts.tell(LATE)
    assert len(mail.outbox) == 3


@pytest.mark.usefixtures("db")
def test_nobody_is_told_unless_the_setting_says_who(settings: Settings) -> None:
    settings.JOBS_ALERTS_TO = ""
    alerts.tell(LATE)
    assert not mail.outbox
    assert not Alert.objects.exists()


@pytest.mark.usefixtures("db")
def test_a_webhook_that_is_away_is_tried_again(
    webhook: Webhook,
    caplog: pytest.LogCaptureFixture,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for webhook.status in (500, 404, 302):
        alerts.tell(LATE)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        monkeypatch.context() as patch,
    ):
        patch.setattr(alerts, "TIMEOUT", 0.1)
        for port in (1, silent.getsockname()[1]):
            settings.JOBS_ALERTS_TO = f"http://127.0.0.1:{port}/services/secret"
            alerts.tell(LATE)
    assert len(caplog.messages) == 5
    assert all("trying again in a minute" in line for line in caplog.messages)
    assert "secret" not in caplog.text
    settings.JOBS_ALERTS_TO, webhook.status = webhook.url, 200
    webhook.received.clear()
    alerts.tell(LATE | SLOW)
    alerts.tell(LATE | SLOW)
    ((path, text),) = webhook.received
    assert path == "/services/secret"
    assert text.startswith(f"[site] {LATE['late mail']} (and 1 more)\n")
    assert SLOW["slow 7"] in text
    webhook.status = 500
    alerts.tell({})
    webhook.status = 204
    webhook.received.clear()
    alerts.tell({})
    alerts.tell({})
    ((_, text),) = webhook.received
    assert text.startswith(f"[site] Over: {LATE['late mail']}")


@pytest.mark.usefixtures("db", "addresses")
def test_a_mail_server_that_is_away_harms_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*args: Any) -> None:
        raise ConnectionRefusedError("no mail server")

    with monkeypatch.context() as patch:
        patch.setattr(alerts, "send_mail", refuse)
        upkeep.watch()
    assert "An alert could not be sent" in caplog.text
    assert not mail.outbox
    upkeep.watch()
    assert [message.subject for message in mail.outbox] == ["[site] No worker is alive"]


@pytest.mark.django_db(transaction=True)
def test_several_workers_tell_once(webhook: Webhook) -> None:
    together = Barrier(4)

    def tell(_: int) -> None:
        try:
            together.wait()
            alerts.tell(LATE | SLOW)
        finally:
            connections.close_all()

    for _ in range(5):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(tell, range(4)))
        assert len(webhook.received) == 1
        webhook.received.clear()
        wait(61)
    Alert.objects.all().delete()


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("addresses")
def test_workers_that_see_different_problems_do_not_block_each_other() -> None:
    together = Barrier(2)

    def tell(problems: dict[str, str]) -> None:
        try:
            for _ in range(20):
                together.wait(30)
                alerts.tell(problems)
        finally:
            connections.close_all()

    alerts.tell(LATE | SLOW)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(tell, [LATE, SLOW]))
    Alert.objects.all().delete()


@pytest.mark.usefixtures("db", "addresses")
def test_another_worker_tells_if_the_first_one_dies_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def die(lines: list[str]) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(alerts, "send", die)
        with pytest.raises(SystemExit):
            alerts.tell(LATE)
    wait(4)
    alerts.tell(LATE)
    assert not mail.outbox
    wait(2)
    alerts.tell(LATE)
    assert len(mail.outbox) == 1


@pytest.mark.usefixtures("db", "addresses")
def test_a_text_of_several_lines_is_sent() -> None:
    alerts.tell({"paused a": "Queue a has been paused\nBcc: eve@example.com"})
    assert mail.outbox[0].subject.endswith("paused Bcc: eve@example.com")
