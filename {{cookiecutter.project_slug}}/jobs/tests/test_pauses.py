"""Paused queues: who may pause them, where that is shown, and what obeys it."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from .. import stats
from ..actions import pause, resume
from ..bridge import MAINTENANCE_QUEUE, Job, job
from ..models import PausedQueue, QueuedJob
from ..procfile import check_served
from ..testing import drain_queue, worker_app
from .conftest import allow

User: Any = get_user_model()


def pages_of(queue: str, pk: int) -> list[str]:
    """Return the pages that show if a queue is paused."""
    return ["/jobs/", f"/jobs/list/?queue={queue}", f"/jobs/{pk}/"]


def wait_a_day() -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_events SET at = at - interval '1 day'")
        cursor.execute("UPDATE jobs_pausedqueue SET since = since - interval '1 day'")


def find(queue: str) -> stats.Queue:
    (found,) = [one for one in stats.now().queues if one.name == queue]
    return found


def test_a_queue_is_paused_and_resumed_from_each_of_its_pages(
    client: Client, staff: Any, ship: Job[...]
) -> None:
    allow(staff, "pause_queue")
    pages = pages_of("ships", ship.defer())
    for page in pages:
        form = {"action": "pause", "queue": "ships", "why": "no <van>"}
        after = client.post(page, form, follow=True)
        assert after.redirect_chain == [(page, 302)]
        assert "Queue ships is paused." in after.content.decode()
        for shown in pages:
            text = client.get(shown).content.decode()
            assert "Queue ships is paused</strong>" in text
            assert "by ann: no &lt;van&gt;</p>" in text
            assert 'value="resume"' in text
        form["action"] = "resume"
        assert (
            "Queue ships is resumed."
            in client.post(page, form, follow=True).content.decode()
        )
        for shown in pages:
            text = client.get(shown).content.decode()
            assert "is paused" not in text
            assert "Pause queue ships</summary>" in text


def test_it_needs_a_permission_of_its_own(
    client: Client, staff: Any, ship: Job[...]
) -> None:
    every = Permission.objects.filter(content_type__app_label="jobs")
    staff.user_permissions.set(every.exclude(codename="pause_queue"))
    pages = pages_of("ships", ship.defer())
    pause("ships", "no van", "ben")
    for page in pages:
        text = client.get(page).content.decode()
        assert "by ben: no van" in text
        assert 'value="resume"' not in text
        for action in ("pause", "resume"):
            form = {"action": action, "queue": "ships", "why": "no crew"}
            assert client.post(page, form).status_code == 403
    assert PausedQueue.objects.get().why == "no van"
    resume("ships", "ben")
    assert 'value="pause"' not in client.get("/jobs/").content.decode()


def test_a_second_pause_keeps_the_first_and_says_so(client: Client, staff: Any) -> None:
    allow(staff, "pause_queue")
    pause("ships", "no van", "ben")
    form = {"action": "pause", "queue": "ships", "why": "no crew"}
    page = client.post("/jobs/", form, follow=True).content.decode()
    assert "nothing changed. Queue ships was paused by ben: no van</" in page
    assert PausedQueue.objects.get().why == "no van"
    form["action"] = "resume"
    for answer in ("Queue ships is resumed.", "Queue ships is not paused."):
        page = client.post("/jobs/", form, follow=True).content.decode()
        assert answer in page


@pytest.mark.parametrize(
    ("queue", "why", "answer"),
    [
        ("ships", " ", "Say why the queue is paused."),
        ("ships", "x" * 201, "201"),
        ("x" * 129, "no van", "129"),
        (
            MAINTENANCE_QUEUE,
            "no van",
            f"The queue {MAINTENANCE_QUEUE} cannot be paused.",
        ),
    ],
)
def test_a_pause_that_makes_no_sense_is_rejected(
    admin_client: Client, queue: str, why: str, answer: str
) -> None:
    form = {"action": "pause", "queue": queue, "why": why}
    assert answer in admin_client.post("/jobs/", form, follow=True).content.decode()
    with pytest.raises(CommandError, match=answer):
        call_command("jobs", "pause", queue, "--reason", why)
    assert not PausedQueue.objects.exists()


def test_the_queue_of_the_maintenance_offers_no_pause(
    admin_client: Client, ship: Job[...]
) -> None:
    pk = ship.configure(queue=MAINTENANCE_QUEUE).defer()
    overview, *pages = pages_of(MAINTENANCE_QUEUE, pk)
    for page in pages:
        assert 'value="pause"' not in admin_client.get(page).content.decode()
    assert MAINTENANCE_QUEUE not in admin_client.get(overview).content.decode()
    wait_a_day()
    late = admin_client.get(overview).content.decode()
    assert f"Queue {MAINTENANCE_QUEUE}: a job has waited" in late
    assert f"Pause queue {MAINTENANCE_QUEUE}" not in late


def test_a_shell_pauses_and_resumes(
    ship: Job[...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setenv("USER", "root")
    call_command("jobs", "pause", "ships", "--reason", "no van")
    found = PausedQueue.objects.get()
    assert (found.queue, found.why) == ("ships", "no van")
    assert found.who.startswith("root on ")
    capsys.readouterr()
    call_command("jobs", "pause", "ships", "--reason", "no crew")
    assert capsys.readouterr().out == (
        "It was already paused, so nothing changed."
        f" Queue ships was paused by {found.who}: no van\n"
    )
    assert PausedQueue.objects.get().why == "no van"
    call_command("jobs", "resume", "ships")
    call_command("jobs", "pause", "ships", "--reason", "no van")
    assert "although there is no job in it" in capsys.readouterr().out
    call_command("jobs", "resume", "ships")
    assert not PausedQueue.objects.exists()
    with pytest.raises(CommandError, match="Queue ships is not paused"):
        call_command("jobs", "resume", "ships")
    pk = ship.defer()
    capsys.readouterr()
    call_command("jobs", "pause", "ships", "--reason", "no van")
    assert capsys.readouterr().out == "Queue ships is paused\n"
    for options in (["list"], ["list", "--queue=ships"], ["show", str(pk)]):
        call_command("jobs", *options)
        assert "Queue ships was paused by root on" in capsys.readouterr().err
    call_command("jobs", "list", "--queue=mail")
    assert capsys.readouterr().err == ""


def test_a_paused_queue_is_not_late_but_a_forgotten_pause_is_a_problem(
    ship: Job[...],
) -> None:
    ship.defer()
    pause("ships", "no van", "ann")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_events SET at = at - interval '1 hour'")
    assert (find("ships").waiting, find("ships").late) == (1, False)
    assert stats.now().problems == ["No worker is alive"]
    wait_a_day()
    (problem, _) = stats.now().problems
    assert problem == "Queue ships has been paused for over a day, by ann: no van"
    resume("ships", "ann")
    assert find("ships").late


def test_a_paused_queue_without_jobs_is_shown(admin_client: Client) -> None:
    pause("mail", "no server", "ann")
    assert find("mail").paused
    assert (
        "Queue mail is paused</strong>" in admin_client.get("/jobs/").content.decode()
    )


@pytest.mark.django_db(transaction=True)
def test_a_worker_takes_no_job_of_a_paused_queue_from_its_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = worker_app()
    monkeypatch.setattr(app, "tasks", dict(app.tasks))
    declared = job(name="ship")(lambda: None)
    declared.task(app)(lambda: None)
    names = ["ships", "mail", "boats"]
    jobs = {queue: declared.configure(queue=queue).defer() for queue in names}
    for queue in ("ships", "boats"):
        pause(queue, "no van", "ann")
    assert drain_queue() == {"succeeded": 1, "todo": 2}
    assert QueuedJob.objects.get(status="succeeded").pk == jobs["mail"]
    resume("ships", "ann")
    assert drain_queue() == {"succeeded": 2, "todo": 1}
    assert PausedQueue.objects.get().since < timezone.now() + timedelta(seconds=1)
    PausedQueue.objects.all().delete()


def test_every_worker_serves_the_queue_of_the_maintenance(
    settings: Settings, tmp_path: Path
) -> None:
    settings.BASE_DIR = tmp_path
    line = "worker: procrastinate --app=tasks.app worker --queues=mail\n"
    (tmp_path / "Procfile").write_text(line)
    queues = ["mail", "ships", MAINTENANCE_QUEUE]
    (warning,) = check_served(queues, "a note", "a place")
    assert "'ships'" in warning.msg
