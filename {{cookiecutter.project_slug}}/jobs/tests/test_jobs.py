"""The list of jobs, the page of one job, and what people may do there."""

import json
import re
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.humanize.templatetags.humanize import intcomma
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from .. import bridge, retry, search, views
from ..actions import ACTIONS, act
from ..life import fold
from ..management.commands.jobs import Command
from ..models import JobFailure, QueuedJob
from .conftest import allow

User: Any = get_user_model()

LIST = "/jobs/list/"


def make_job(status: str, **columns: Any) -> QueuedJob:
    """Put a job into the queue's table, in any state."""
    columns = {"queue_name": "default", "task_name": "ship", "args": "{}"} | columns
    names = ", ".join(columns)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO procrastinate_jobs (status, {names})"
            f" VALUES (%s, {', '.join(['%s'] * len(columns))}) RETURNING id",
            [status, *columns.values()],
        )
        ((pk,),) = cursor.fetchall()
    job: QueuedJob = QueuedJob.objects.get(pk=pk)
    return job


def make_one_of_each() -> dict[str, QueuedJob]:
    """Make a job in every state."""
    soon = timezone.now() + timedelta(hours=1)
    return {
        "waiting": make_job("todo"),
        "scheduled": make_job("todo", scheduled_at=soon),
        "running": make_job("doing"),
        "failed": make_job("failed"),
        "succeeded": make_job("succeeded"),
        "cancelled": make_job("cancelled"),
        "stopped": make_job("aborted"),
    }


def listed(client: Client, query: str = "") -> list[int]:
    """Return the ids of the jobs in the list."""
    page = client.get(f"{LIST}?{query}").content.decode()
    return [int(pk) for pk in re.findall(r'href="/jobs/(\d+)/"', page)]


def choose(client: Client, action: str, *jobs: QueuedJob, query: str = "") -> str:
    """Press a button of the list, and return the next page."""
    form = {"action": action, "job": [job.pk for job in jobs]}
    return client.post(f"{LIST}{query}", form, follow=True).content.decode()


def test_the_list_finds_jobs_by_state(admin_client: Client) -> None:
    jobs = make_one_of_each()
    assert listed(admin_client) == sorted(
        (job.pk for job in jobs.values()), reverse=True
    )
    for state, job in jobs.items():
        assert listed(admin_client, f"state={state}") == [job.pk]
        assert job.state == state


def test_the_list_finds_jobs_by_task_queue_and_time(admin_client: Client) -> None:
    old, new = make_job("doing"), make_job("doing")
    QueuedJob.objects.filter(status="doing").update(status="failed")
    mail = make_job("failed", task_name="mail", queue_name="mails")
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE procrastinate_events SET at = at - interval '2 hours'"
            " WHERE job_id = %s",
            [old.pk],
        )
    assert listed(admin_client, "task=mail") == [mail.pk]
    assert listed(admin_client, "queue=mails") == [mail.pk]
    assert listed(admin_client, "task=ship&ended=hour") == [new.pk]
    assert listed(admin_client, "task=ship&ended=day") == [new.pk, old.pk]


def test_maintenance_that_went_well_is_hidden_until_asked_for(
    admin_client: Client,
) -> None:
    failed = make_job("failed", task_name="maintenance.prune")
    fine = make_job("succeeded", task_name="maintenance.prune")
    assert listed(admin_client) == [failed.pk]
    assert listed(admin_client, "task=all") == [fine.pk, failed.pk]
    assert listed(admin_client, "task=maintenance.prune") == [fine.pk, failed.pk]


def test_jobs_are_found_by_id_task_lock_argument_and_what_was_raised(
    admin_client: Client,
) -> None:
    job = make_job(
        "failed", task_name="ship", args='{"order": "zebra"}', lock="order:7"
    )
    other = make_job("failed", task_name="mail", args='{"order": "none"}')
    JobFailure.objects.create(job=other, attempt=1, exception="Late", message="no van")
    for text in (job.pk, "SHI", "order:7", "zebra"):
        assert listed(admin_client, f"text={text}") == [job.pk], text
    for text in ("late", "no van"):
        assert listed(admin_client, f"text={text}") == [other.pk], text
    assert listed(admin_client, "text=nothing") == []
    number = make_job("failed", args=json.dumps({"order": job.pk}))
    assert listed(admin_client, f"text=%22{job.pk}%22") == [number.pk]


def test_arguments_and_failures_need_their_permissions(
    client: Client, staff: Any
) -> None:
    job = make_job("failed", args='{"name": "Zoe"}')
    JobFailure.objects.create(job=job, attempt=1, exception="Late", message="no van")
    pages = [f"{LIST}?task=ship", f"/jobs/{job.pk}/"]

    def seen(text: str) -> list[bool]:
        return [text in client.get(page).content.decode() for page in pages]

    assert seen("Zoe") == seen("no van") == [False, False]
    assert listed(client, "text=zoe") == listed(client, "text=van") == []
    allow(staff, "view_arguments")
    assert seen("Zoe") == [True, True]
    assert (listed(client, "text=zoe"), listed(client, "text=van")) == ([job.pk], [])
    allow(staff, "view_jobfailure")
    assert seen("no van") == [True, True]
    assert listed(client, "text=van") == [job.pk]


def test_the_list_goes_on_page_by_page_and_window_by_window(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "WINDOW", 3)
    monkeypatch.setattr(search, "LARGEST_WINDOW", 3)
    jobs = [make_job("failed" if n % 2 else "succeeded").pk for n in range(9)]
    jobs.reverse()
    found = search.find(search.Filters(), limit=4)
    assert [job.pk for job in found.jobs] == jobs[:4]
    found = search.find(search.Filters(), limit=4, before=found.older)
    assert [job.pk for job in found.jobs] == jobs[4:8]
    found = search.find(search.Filters(), limit=4, before=found.older)
    assert ([job.pk for job in found.jobs], found.older) == (jobs[8:], None)
    found = search.find(search.Filters(state="failed"))
    assert [job.pk for job in found.jobs] == jobs[1::2]
    # Nothing is searched that an index rules out.
    for state in ("running", "waiting", "scheduled"):
        with CaptureQueriesContext(connection) as queries:
            assert search.find(search.Filters(state=state)).jobs == []
        assert len(queries) == 1
    # After its time, it says how far it came.
    monkeypatch.setattr(search, "SECONDS", 0)
    found = search.find(search.Filters(state="failed"))
    assert found.older == jobs[3]
    assert (
        f"before={jobs[3]}" in admin_client.get(f"{LIST}?state=failed").content.decode()
    )


def test_a_search_that_takes_too_long_says_so(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_job("failed")
    slow = QueuedJob.objects.extra(where=["pg_sleep(5) IS NOT NULL"])
    monkeypatch.setattr(search, "SECONDS", 0.1)
    monkeypatch.setattr(search, "_matching", lambda *args: slow)
    page = admin_client.get(LIST).content.decode()
    assert "This search took longer than two seconds." in page


def test_the_list_needs_few_queries_and_counts_nothing(admin_client: Client) -> None:
    for _ in range(60):
        make_job("succeeded", args='{"text": "%s"}' % ("x" * 1_000))
    with CaptureQueriesContext(connection) as queries:
        page = admin_client.get(LIST)
    # Session and user; the newest id, the timeout in a savepoint, the jobs, the events.
    assert len(queries) == 9
    assert not [query for query in queries if "COUNT(" in query["sql"]]
    assert len(page.content) < 100_000
    assert "Older jobs" in page.content.decode()


def test_an_action_without_jobs_asks_for_some(admin_client: Client) -> None:
    form = {"action": "retry_job"}
    page = admin_client.post("/jobs/list/", form, follow=True).content.decode()
    assert "Run again: choose jobs, or all that match." in page


@pytest.mark.parametrize("action", ACTIONS)
def test_each_action_needs_its_permission(
    client: Client, staff: Any, action: str
) -> None:
    allow(staff, *set(ACTIONS) - {action})
    jobs = make_one_of_each().values()
    before = list(QueuedJob.objects.order_by("pk").values())
    assert f'value="{action}"' not in client.get(LIST).content.decode()
    for page in (LIST, *(f"/jobs/{job.pk}/" for job in jobs)):
        form = {"action": action, "job": [job.pk for job in jobs]}
        assert client.post(page, form).status_code == 403
    assert list(QueuedJob.objects.order_by("pk").values()) == before


@pytest.mark.parametrize(
    ("action", "changed", "status"),
    [
        ("retry_job", {"failed", "cancelled", "stopped"}, "todo"),
        ("run_job_now", {"scheduled"}, "todo"),
        ("cancel_job", {"waiting", "scheduled"}, "cancelled"),
        ("abort_job", {"running"}, "doing"),
    ],
)
def test_an_action_changes_only_jobs_of_its_states_and_is_recorded(
    client: Client, staff: Any, action: str, changed: set[str], status: str
) -> None:
    allow(staff, action)
    jobs = make_one_of_each()
    page = choose(client, action, *jobs.values())
    assert f"{ACTIONS[action].label}: {len(changed)} of 7 jobs." in page
    for state, job in jobs.items():
        before = job.status
        job.refresh_from_db()
        assert job.status == (status if state in changed else before)
        assert job.abort_requested == (action == "abort_job" and state == "running")
        record = LogEntry.objects.filter(object_id=job.pk, user=staff)
        assert record.count() == (state in changed)
        page = client.get(f"/jobs/{job.pk}/").content.decode()
        assert (f"{ACTIONS[action].label}: ann" in page) == (state in changed)
    if action == "run_job_now":
        assert jobs["scheduled"].state == "waiting"


def test_all_jobs_that_match_are_chosen_at_once(client: Client, staff: Any) -> None:
    allow(staff, "retry_job")
    jobs = [make_job("failed") for _ in range(60)]
    other = make_job("failed", task_name="mail")
    form = {"action": "retry_job", "all": "on"}
    page = f"{LIST}?task=ship&state=failed"
    most = intcomma(views.MOST)  # in the language of the settings
    assert f"all that match, {most} at most" in client.get(page).content.decode()
    text = client.post(page, form, follow=True).content.decode()
    assert "Run again: 60 of 60 jobs.<" in text
    todo = QueuedJob.objects.filter(status="todo")
    assert {job.pk for job in todo} == {job.pk for job in jobs}
    other.refresh_from_db()
    assert other.status == "failed"
    page = f"{LIST}?state=failed"
    assert "all 1 that match" in client.get(page).content.decode()
    client.post(page, form)
    text = client.post(page, form, follow=True).content.decode()
    assert "Run again: 0 of 0 jobs.<" in text


def test_an_action_on_more_jobs_than_its_limit_says_so(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        make_job("failed")
    monkeypatch.setattr(views, "MOST", 1)
    form = {"action": "retry_job", "all": "on"}
    page = admin_client.post(LIST, form, follow=True).content.decode()
    assert "1 of 1 job. There may be more that match: do it again." in page
    printed = run("run-again", "--state=failed", "--limit=1")
    assert printed == (
        "Run again: 1 of 1 job; there may be more that match: do it again\n"
    )
    assert run("run-again", "--state=failed") == "Run again: 1 of 1 job\n"


def test_a_job_that_runs_again_keeps_attempts_and_schedule_but_no_request_to_stop(
    client: Client, staff: Any
) -> None:
    allow(staff, "retry_job")
    soon = timezone.now() + timedelta(hours=1)
    job = make_job("failed", abort_requested=True, attempts=2)
    later = make_job("cancelled", scheduled_at=soon)
    choose(client, "retry_job", job, later)
    job.refresh_from_db()
    later.refresh_from_db()
    assert (job.status, job.abort_requested, job.attempts) == ("todo", False, 2)
    assert job.state == "waiting"
    assert later.scheduled_at == soon


def test_jobs_that_collide_with_a_waiting_job_do_not_run_again(
    client: Client, staff: Any
) -> None:
    allow(staff, "retry_job")
    make_job("todo", queueing_lock="one")
    jobs = [
        make_job("failed", queueing_lock="one"),
        make_job("failed", queueing_lock="two"),
        make_job("failed", queueing_lock="two"),
        make_job("failed"),
    ]
    page = choose(client, "retry_job", *jobs)
    assert "Run again: 2 of 4 jobs. 2 not, as a job with the same" in page
    assert act("retry_job", [jobs[0].pk]) == (0, 1)


@pytest.mark.parametrize("bad", ["state=lost", "before=x", "text=%00", "before=-1"])
def test_a_bad_filter_shows_no_jobs_and_changes_none(
    client: Client, staff: Any, bad: str
) -> None:
    allow(staff, "retry_job")
    job = make_job("failed")
    assert listed(client, bad) == []
    client.post(f"{LIST}?{bad}", {"action": "retry_job", "job": [job.pk], "all": "on"})
    job.refresh_from_db()
    assert job.status == "failed"


def test_a_job_shows_its_life_and_its_buttons(
    admin_client: Client, ship: bridge.Job[...]
) -> None:
    pk = ship.configure(schedule_in=timedelta(hours=1)).defer()
    job = QueuedJob.objects.filter(pk=pk)
    for status in ("doing", "todo", "doing", "failed"):
        job.update(status=status)
    JobFailure.objects.create(
        job_id=pk, attempt=1, exception="KeyError", message="'x'", duration=2.3456789
    )
    page = admin_client.get(f"/jobs/{pk}/").content.decode()
    for text in ("Deferred, due", "Put back into the queue", "Failed for good"):
        assert text in page
    assert re.search(r"Attempt 1 raised <strong>KeyError</strong> after 2.35 s", page)
    assert page.count("<p>Started") == 2
    buttons = re.findall(r'name="action" value="(\w+)"', page)
    assert buttons == ["retry_job", "pause"]
    assert " style=" not in page
    assert 'rel="icon"' in page
    admin_client.post(f"/jobs/{pk}/", {"action": "retry_job"})
    page = admin_client.get(f"/jobs/{pk}/").content.decode()
    assert "Put back by a person" in page
    assert "Run again: admin" in page


def test_a_list_shows_how_long_jobs_took_if_that_is_known(
    ship: bridge.Job[...],
) -> None:
    quick, atomic = ship.defer(), ship.defer()
    for status in ("doing", "succeeded"):
        QueuedJob.objects.filter(pk__in=[quick, atomic]).update(status=status)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_events SET at = '2026-01-01 12:00+0'")
        cursor.execute(
            "UPDATE procrastinate_events SET at = '2026-01-01 13:02:03.4+0'"
            " WHERE type = 'succeeded' AND job_id = %s",
            [quick],
        )
    jobs = search.find(search.Filters(task="ship")).jobs
    search.add_times(jobs)
    assert {job.pk: job.duration for job in jobs} == {quick: "1:02:03", atomic: ""}
    assert search.spell(timedelta(seconds=2.345)) == "2.35 s"


def test_a_job_shows_who_holds_its_lock(admin_client: Client) -> None:
    first, second = (make_job("todo", lock="order:7") for _ in range(2))
    make_job("succeeded", lock="order:7")
    page = admin_client.get(f"/jobs/{second.pk}/").content.decode()
    assert f'<a href="/jobs/{first.pk}/">{first.pk}</a> (waiting)' in page
    assert page.count("(waiting)") == 1
    assert "(succeeded)" not in page


def test_long_arguments_are_clipped(admin_client: Client) -> None:
    job = make_job("failed", args='{"text": "%s"}' % ("x" * 100_000))
    assert len(admin_client.get(LIST).content) < 20_000
    assert len(admin_client.get(f"/jobs/{job.pk}/").content) < 40_000


def test_the_frames_of_libraries_are_folded() -> None:
    own = '  File "/srv/tasks/shop.py", line 7, in ship\n    call()\n'
    here = f'  File "{retry.__file__}", line 1, in f\n    g\n'
    library = '  File "/srv/site-packages/x.py", line 1, in f\n    g\n'
    standard = '  File "/usr/lib/python3.13/json.py", line 1, in f\n    g\n'
    text = f"Traceback (most recent call last):\n{here}{own}{library}{standard}KeyError: 'x'\n"
    assert fold(text) == [
        (False, 1, "Traceback (most recent call last):\n"),
        (True, 1, here),
        (False, 1, own),
        (True, 2, library + standard),
        (False, 1, "KeyError: 'x'\n"),
    ]


def test_the_admin_leads_to_the_pages_of_the_jobs(admin_client: Client) -> None:
    job = make_job("failed")
    admin = "/admin/jobs/queuedjob/"
    assert (
        'href="/admin/jobs/queuedjob/"' in admin_client.get("/admin/").content.decode()
    )
    assert admin_client.get(admin).headers["Location"] == LIST
    response = admin_client.get(f"{admin}{job.pk}/change/")
    assert response.headers["Location"] == f"/jobs/{job.pk}/"
    assert admin_client.get(f"{admin}x/change/").status_code == 404
    assert admin_client.get(f"{admin}add/").status_code == 403
    assert admin_client.post(f"{admin}{job.pk}/delete/").status_code == 403
    assert admin_client.get("/admin/procrastinate/procrastinatejob/").status_code == 404


@pytest.mark.parametrize("page", [LIST, "/jobs/{}/"])
@pytest.mark.parametrize(("is_staff", "status"), [(True, 403), (False, 302)])
def test_the_pages_are_for_staff_who_may_view_jobs(
    client: Client, user: Any, page: str, is_staff: bool, status: int
) -> None:
    User.objects.filter(pk=user.pk).update(is_staff=is_staff)
    client.force_login(user)
    address = page.format(make_job("failed").pk)
    assert client.get(address).status_code == status
    assert client.post(address, {"action": "retry_job"}).status_code == status


def test_a_job_that_is_gone_is_not_found(admin_client: Client) -> None:
    for pk in (1, 10**30):
        assert admin_client.get(f"/jobs/{pk}/").status_code == 404


def run(*arguments: object) -> str:
    """Run the command, and return what it prints."""
    output = StringIO()
    call_command("jobs", *map(str, arguments), stdout=output)
    return output.getvalue()


def test_the_command_lists_shows_and_acts(ship: bridge.Job[...]) -> None:
    pk = ship.defer()
    job = QueuedJob.objects.filter(pk=pk)
    for status in ("doing", "failed"):
        job.update(status=status)
    frame = f'  File "{retry.__file__}", line 1, in f\n'
    late = JobFailure(job_id=pk, attempt=1, exception="Late", message="no van")
    late.traceback = f"{frame}shop.Late: no van\n"
    late.host = "worker-1"
    late.at = datetime(2026, 1, 1, tzinfo=UTC)
    late.save()
    other = make_job("failed", task_name="mail")
    listing = run("list", "--state=failed", "--task=ship")
    assert f"{pk}  failed" in listing
    assert listing.endswith("  ship {}  Late: no van\n")
    assert listing.count("\n") == 1
    notes = StringIO()
    call_command("jobs", "list", "--limit=1", stdout=StringIO(), stderr=notes)
    assert notes.getvalue() == f"Go on with --before={other.pk}\n"
    with timezone.override("Asia/Tokyo"):
        shown = run("show", pk)
    assert f"ship[{pk}]: failed, in the queue ships" in shown
    assert "2026-01-01 09:00:00  attempt 1: Late on worker-1: no van\n" in shown
    assert "no van\n  1 frame of libraries\nshop.Late" in shown
    assert frame in run("show", pk, "--full")
    assert "Failed for good" in shown
    assert run("run-again", "--task=ship") == "Run again: 1 of 1 job\n"
    assert run("cancel", pk) == "Cancel: 1 of 1 job\n"
    assert job.get().status == "cancelled"
    other.refresh_from_db()
    assert other.status == "failed"
    for wrong in (["cancel", pk], ["run-again"], ["show", 0], ["ask-to-stop", pk]):
        with pytest.raises(CommandError):
            run(*wrong)


@pytest.mark.django_db
def test_a_terminal_gets_headings_over_their_columns() -> None:
    make_job("failed", queue_name="mail")
    job = make_job("failed", queue_name="a-long-name")
    JobFailure.objects.create(job=job, attempt=1, exception="Late", message="no van")
    output = StringIO()
    output.isatty = lambda: True  # type: ignore[method-assign]
    call_command("jobs", "list", stdout=output)
    headings, newest, error, older = output.getvalue().splitlines()
    for line, queue in ((newest, "a-long-name"), (older, "mail")):
        for heading, text in (("STATE", "failed"), ("QUEUE", queue), ("TASK", "ship")):
            assert line[headings.index(heading) :].startswith(text)
    assert error == "          Late: no van"


@pytest.mark.parametrize(("command", "limit"), [("list", 50), ("cancel", 10_000)])
def test_each_command_has_a_limit_of_its_own(
    capsys: pytest.CaptureFixture[str], command: str, limit: int
) -> None:
    parser = Command().create_parser("manage.py", "jobs")
    assert parser.parse_args([command]).limit == limit
    with pytest.raises(SystemExit):
        parser.parse_args([command, "--help"])
    assert f"by default, {limit}" in " ".join(capsys.readouterr().out.split())
