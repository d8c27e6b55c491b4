"""What staff see of the queue in the admin, and what they may do to it."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from procrastinate.contrib.django.models import (
    ProcrastinatePeriodicDefer,
    ProcrastinateWorker,
)
from pytest_django import DjangoAssertNumQueries, Settings

from .. import bridge
from ..models import JobFailure, QueuedJob

User: Any = get_user_model()

LIST = "/admin/jobs/queuedjob/"
ACTIONS = ["retry_job", "run_job_now", "cancel_job", "abort_job"]


@pytest.fixture
def staff(db: None, client: Client) -> Any:
    """Somebody who may view jobs and nothing else, logged in."""
    user = User.objects.create_user("staff", is_staff=True)
    allow(user, "view_queuedjob")
    client.force_login(user)
    return user


def allow(user: Any, *codenames: str) -> None:
    user.user_permissions.add(*Permission.objects.filter(codename__in=codenames))


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
        row = cursor.fetchone()
    assert row
    job: QueuedJob = QueuedJob.objects.get(pk=row[0])
    return job


def make_worker_and_periodic_task(job: QueuedJob) -> None:
    """Register a worker whose last heartbeat is an hour old, and a periodic task."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - '1 h'::interval)"
        )
        cursor.execute(
            "INSERT INTO procrastinate_periodic_defers (task_name, defer_timestamp, job_id)"
            " VALUES ('nightly', 1700000000, %s)",
            [job.pk],
        )


def run_action(client: Client, action: str, *jobs: QueuedJob) -> None:
    """Run an action on jobs, as a click on the page does."""
    form = {"action": action, "_selected_action": [job.pk for job in jobs]}
    client.post(LIST, form)


@pytest.mark.parametrize("action", ACTIONS)
def test_each_action_needs_its_permission(
    client: Client, staff: Any, action: str
) -> None:
    others = set(ACTIONS) - {action}
    allow(staff, *others)
    soon = timezone.now() + timedelta(hours=1)
    jobs = [make_job("todo", scheduled_at=soon), make_job("doing"), make_job("failed")]
    before = list(QueuedJob.objects.order_by("pk").values())
    assert f'value="{action}"' not in client.get(LIST).content.decode()
    run_action(client, action, *jobs)
    assert list(QueuedJob.objects.order_by("pk").values()) == before


@pytest.mark.parametrize(
    ("action", "statuses"),
    [
        ("retry_job", {"failed": "todo"}),
        ("cancel_job", {"todo": "cancelled"}),
        ("abort_job", {}),
        ("run_job_now", {}),
    ],
)
def test_an_action_changes_only_jobs_of_its_status_and_is_logged(
    client: Client, staff: Any, action: str, statuses: dict[str, str]
) -> None:
    allow(staff, action)
    soon = timezone.now() + timedelta(hours=1)
    jobs = {
        status: make_job(status, scheduled_at=soon if status == "todo" else None)
        for status in QueuedJob.STATUSES
    }
    run_action(client, action, *jobs.values())
    for status, job in jobs.items():
        job.refresh_from_db()
        assert job.status == statuses.get(status, status)
        assert job.abort_requested == (action == "abort_job" and status == "doing")
        now = action == "run_job_now" and status == "todo"
        if job.status == "todo" and status == "todo" and job.scheduled_at:
            assert (job.scheduled_at <= timezone.now()) == now
    entry = LogEntry.objects.get()
    assert entry.user == staff
    assert entry.object_id in {str(job.pk) for job in jobs.values()}


def test_jobs_that_leave_the_filter_are_counted(client: Client, staff: Any) -> None:
    allow(staff, "retry_job")
    form = {"action": "retry_job", "_selected_action": [make_job("failed").pk]}
    page = client.post(f"{LIST}?status__exact=failed", form, follow=True)
    assert "Run again (failed jobs): 1 of 1" in page.content.decode()


def test_a_job_that_runs_again_keeps_its_attempts_but_no_request_to_stop(
    client: Client, staff: Any
) -> None:
    allow(staff, "retry_job")
    job = make_job("failed", abort_requested=True, attempts=2)
    run_action(client, "retry_job", job)
    job.refresh_from_db()
    assert (job.status, job.abort_requested, job.attempts) == ("todo", False, 2)


def test_a_retry_that_collides_with_a_waiting_job_says_so(
    client: Client, staff: Any
) -> None:
    allow(staff, "retry_job")
    make_job("todo", queueing_lock="one")
    failed, other = make_job("failed", queueing_lock="one"), make_job("failed")
    form = {"action": "retry_job", "_selected_action": [failed.pk, other.pk]}
    page = client.post(LIST, form, follow=True).content.decode()
    assert "Run again (failed jobs): 1 of 2" in page
    assert f"Job {failed.pk}: another job with the same queueing lock" in page
    other.refresh_from_db()
    assert other.status == "todo"


@pytest.mark.parametrize(
    "model", [QueuedJob, ProcrastinateWorker, ProcrastinatePeriodicDefer]
)
def test_nobody_adds_changes_or_deletes(
    admin_client: Client, model: type[Model]
) -> None:
    """Procrastinate's models allow it in querysets, and so in the admin."""
    make_worker_and_periodic_task(make_job("failed"))
    row = model._default_manager.get()
    pages = reverse(f"admin:{model._meta.label_lower.replace('.', '_')}_changelist")
    assert admin_client.get(f"{pages}add/").status_code == 403
    assert admin_client.post(f"{pages}{row.pk}/change/").status_code == 403
    assert admin_client.post(f"{pages}{row.pk}/delete/").status_code == 403
    assert 'value="delete_selected"' not in admin_client.get(pages).content.decode()


def test_only_one_admin_shows_jobs(admin_client: Client) -> None:
    assert admin_client.get("/admin/procrastinate/procrastinatejob/").status_code == 404


def test_long_arguments_are_clipped(admin_client: Client) -> None:
    job = make_job("failed", args='{"text": "%s"}' % ("x" * 100_000))
    assert len(admin_client.get(LIST).content) < 40_000
    assert len(admin_client.get(f"{LIST}{job.pk}/change/").content) < 40_000


def test_a_job_is_shown_readably_and_without_inline_styles(
    admin_client: Client,
) -> None:
    job = make_job("failed", task_name="shop.orders.ship", args='{"order_id": 7}')
    JobFailure.objects.create(job=job, attempt=1, duration=2.3456789)
    page = admin_client.get(f"{LIST}{job.pk}/change/").content.decode()
    for shown in ("shop.orders.ship", "{&quot;order_id&quot;: 7}", "2.35 seconds"):
        assert f'<div class="readonly">{shown}</div>' in page
    assert " style=" not in page
    assert 'rel="icon"' in page


def test_failures_need_their_permission(client: Client, staff: Any) -> None:
    job = make_job("failed")
    JobFailure.objects.create(
        job=job, attempt=1, exception="KeyError", traceback="in the body"
    )
    page = f"{LIST}{job.pk}/change/"
    assert b"in the body" not in client.get(page).content
    assert b"KeyError" not in client.get(reverse("jobs:queues")).content
    allow(staff, "view_jobfailure")
    assert b"in the body" in client.get(page).content
    assert b"KeyError" in client.get(reverse("jobs:queues")).content


def test_the_list_neither_counts_all_rows_nor_reads_distinct_values(
    admin_client: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(3):
        make_job("succeeded")
    with django_assert_num_queries(4) as queries:
        admin_client.get(LIST)
    sql = [query["sql"] for query in queries.captured_queries]
    assert not [query for query in sql if "DISTINCT" in query]
    (count,) = [query for query in sql if "COUNT(*)" in query]
    assert "LIMIT 10000" in count


def test_jobs_are_found_by_task_and_id(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge, "declared", dict.fromkeys(["ship", "other"]))
    job = make_job("failed")
    other = make_job("failed", task_name="other")
    link = f"{LIST}{other.pk}/change/"
    assert link in admin_client.get(LIST).content.decode()
    assert link not in admin_client.get(f"{LIST}?q={job.pk}").content.decode()
    assert link not in admin_client.get(f"{LIST}?task=ship").content.decode()


def test_workers_and_periodic_tasks_are_shown(
    admin_client: Client, settings: Settings
) -> None:
    settings.LANGUAGE_CODE, settings.TIME_ZONE = "en-us", "UTC"
    make_worker_and_periodic_task(make_job("succeeded"))
    workers = admin_client.get("/admin/procrastinate/procrastinateworker/").content
    assert re.search(rb"36\d\d s ago", workers)
    periodic = admin_client.get(
        "/admin/procrastinate/procrastinateperiodicdefer/"
    ).content
    assert b"nightly" in periodic
    assert b"Nov. 14, 2023" in periodic
