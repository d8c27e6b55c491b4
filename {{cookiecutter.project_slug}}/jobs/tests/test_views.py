"""Health, metrics and the page of the queues."""

import re
import socket
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateWorker
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import DjangoAssertNumQueries, Settings

from .. import stats, upkeep, upstream
from ..bridge import Job
from ..models import JobFailure, QueuedJob, QueueSample, WorkerInfo

User: Any = get_user_model()

Migration = MigrationRecorder.Migration


@pytest.fixture
def worker(db: None) -> None:
    """A living worker."""
    with connection.cursor() as cursor:
        cursor.execute(upstream.REGISTER_WORKER)


def age(seconds: float, *tables: str) -> None:
    """Let time pass."""
    with connection.cursor() as cursor:
        for table, column in {
            "procrastinate_events": "at",
            "procrastinate_workers": "last_heartbeat",
        }.items():
            if not tables or table in tables:
                cursor.execute(
                    f"UPDATE {table} SET {column} = {column} - make_interval(secs => %s)",
                    [seconds],
                )


def test_workers_are_healthy_with_a_heartbeat_in_the_last_20_seconds(
    worker: None,
) -> None:
    age(10)
    assert stats.now().healthy
    age(15)
    assert not stats.now().healthy


def test_workers_are_unhealthy_while_a_job_waits_too_long(
    worker: None, ship: Job[...], settings: Settings
) -> None:
    settings.JOBS_MAX_WAIT = {"default": 10, "ships": 60}
    ship.configure(schedule_in=timedelta(days=1)).defer()
    ship.defer()
    age(30, "procrastinate_events")
    assert stats.now().healthy
    age(40, "procrastinate_events")
    assert not stats.now().healthy


def test_a_retried_job_has_waited_since_it_was_due(ship: Job[...]) -> None:
    pk = ship.defer()
    age(1_000)
    due = timezone.now() - timedelta(seconds=5)
    QueuedJob.objects.filter(pk=pk).update(scheduled_at=due)
    (queue,) = [queue for queue in stats.now().queues if queue.name == "ships"]
    assert queue.waiting == 1
    assert 4 < queue.wait < 100


def test_an_empty_declared_queue_is_included(ship: Job[...]) -> None:
    assert stats.Queue("ships") in stats.now().queues


def test_the_stats_need_six_queries(
    ship: Job[...], django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for name in "abc":
        ship.configure(queue=name).defer()
    with django_assert_num_queries(6):
        stats.now()


def test_metrics_are_not_found_without_a_token(
    client: Client, settings: Settings
) -> None:
    settings.METRICS_TOKEN = ""
    assert (
        client.get("/metrics", headers={"authorization": "Bearer "}).status_code == 404
    )


@pytest.mark.parametrize("given", ["", "secret", "Bearer", "Bearer secre", "Bearer ü"])
def test_metrics_need_the_token(client: Client, settings: Settings, given: str) -> None:
    settings.METRICS_TOKEN = "secret"
    response = client.get("/metrics", headers={"authorization": given})
    assert (response.status_code, response.content) == (401, b"")


def test_metrics_agree_with_the_stats(
    client: Client, settings: Settings, worker: None, ship: Job[...]
) -> None:
    settings.METRICS_TOKEN = "secret"
    ship.defer()
    ship.configure(schedule_in=timedelta(hours=1)).defer()
    response = client.get("/metrics", headers={"authorization": "Bearer secret"})
    samples = {
        (sample.name, sample.labels.get("queue")): sample.value
        for family in text_string_to_metric_families(response.content.decode())
        for sample in family.samples
    }
    assert samples["jobs_waiting", "ships"] == 1
    assert samples["jobs_scheduled", "ships"] == 1
    assert samples["jobs_running", "ships"] == 0
    assert samples["jobs_workers", None] == 1
    assert "text/plain; version=0.0.4" in response.headers["Content-Type"]


def test_the_page_shows_now_and_the_last_day(
    admin_client: Client, worker: None, ship: Job[...]
) -> None:
    limit = settings.JOBS_MAX_WAIT["default"]
    for minutes, wait in ((5, 0), (95, limit + 1), (25 * 60, 0)):
        minute = timezone.now() - timedelta(minutes=minutes)
        QueueSample.objects.create(
            minute=minute, queue="ships", waiting=minutes, running=1, wait=wait
        )
    page = admin_client.get("/jobs/").content.decode()
    assert "All queues are within their limits." in page
    assert page.count("<rect") == 2
    assert page.count('class="late"') == 1
    assert "peak: 95 waiting" in page
    assert "style=" not in page


def test_the_page_is_not_green_after_a_job_failed_for_good(
    admin_client: Client, worker: None, ship: Job[...]
) -> None:
    def state() -> tuple[str, str]:
        page = admin_client.get("/jobs/").content.decode()
        card = page.partition('aria-label="State"')
        return card[0].rpartition("card ")[2][:5], card[2].partition("</section>")[0]

    assert state()[0] == 'well"'
    jobs = [ship.defer() for _ in range(3)]
    QueuedJob.objects.all().update(status="doing")
    QueuedJob.objects.all().update(status="failed")
    colour, text = state()
    assert colour == "alarm"
    assert "3 jobs failed for good</a> in the last day." in text
    (link,) = re.findall(r'href="([^"]+)"', text)
    page = admin_client.get(link.replace("&amp;", "&")).content.decode()
    assert all(f'href="/jobs/{pk}/"' in page for pk in jobs)
    assert (stats.ended()["ships"].failed_hour, stats.ended()["ships"].failed_day) == (
        3,
        3,
    )
    age(2 * 3_600, "procrastinate_events")
    assert (stats.ended()["ships"].failed_hour, stats.ended()["ships"].failed_day) == (
        0,
        3,
    )
    QueuedJob.objects.filter(pk=jobs[0]).update(status="todo")
    assert stats.ended()["ships"].failed_day == 2
    age(25 * 3_600, "procrastinate_events")
    QueuedJob.objects.filter(status="todo").delete()
    assert state()[0] == 'well"'


def test_what_succeeded_is_counted_without_waiting_for_the_next_sample(
    worker: None, ship: Job[...]
) -> None:
    upkeep.watch()
    for _ in range(2):
        ship.defer()
    QueuedJob.objects.all().update(status="doing")
    QueuedJob.objects.all().update(status="succeeded")
    assert stats.ended()["ships"].succeeded_hour == 2
    minute = timezone.now() - timedelta(hours=2)
    QueueSample.objects.create(
        minute=minute, queue="ships", waiting=0, running=0, wait=0, succeeded=5
    )
    assert stats.ended()["ships"].succeeded_hour == 2
    assert stats.ended()["ships"].succeeded_day == 7


def test_the_page_shows_workers_and_periodic_jobs(
    admin_client: Client, worker: None, ship: Job[...]
) -> None:
    pk = ship.defer()
    row = ProcrastinateWorker.objects.get()
    QueuedJob.objects.filter(pk=pk).update(status="doing", worker_id=row.pk)
    WorkerInfo.objects.create(
        worker_id=row.pk,
        host="worker-1",
        pid=4711,
        started_at=timezone.now(),
        queues=["ships"],
        tasks=[],
        periodic={"nightly": "30 3 * * *", "weekly": "0 8 * * 1 (Asia/Tokyo)"},
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO procrastinate_periodic_defers (task_name, defer_timestamp, job_id)"
            " VALUES ('nightly', 1700000000, %s)",
            [pk],
        )
    page = admin_client.get("/jobs/").content.decode()
    for text in ("worker-1, process 4711", f"ship[{pk}]</a>", ":13:20"):
        assert text in page
    nightly, weekly = stats.periodic_tasks(stats.registered_workers())
    assert nightly.job == QueuedJob(pk=pk)
    assert nightly.next
    assert weekly.next
    assert (weekly.next.utcoffset(), weekly.next.hour) == (timedelta(hours=9), 8)
    age(3_600)
    assert ">silent<" in admin_client.get("/jobs/").content.decode()


def test_a_page_without_jobs_shows_how_to_defer_one(
    admin_client: Client, ship: Job[...]
) -> None:
    page = admin_client.get("/jobs/").content.decode()
    assert "No jobs yet" in page
    assert re.search(r"from [\w.]+ import \w+\njob_id = \w+\.defer\(", page)
    ship.defer()
    assert "No jobs yet" not in admin_client.get("/jobs/").content.decode()


def test_the_page_tells_what_is_wrong(admin_client: Client, ship: Job[...]) -> None:
    ship.defer()
    age(3_600)
    page = admin_client.get("/jobs/").content.decode()
    assert "No worker is alive" in page
    assert "Queue ships: a job has waited for 1:0" in page


def test_the_page_needs_no_more_queries_for_more_queues(
    admin_client: Client,
    ship: Job[...],
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    for name in "abcdef":
        pk = ship.configure(queue=name).defer()
        JobFailure.objects.create(job_id=pk, attempt=1)
    with django_assert_num_queries(23):
        admin_client.get("/jobs/")


@pytest.mark.parametrize(("is_staff", "status"), [(True, 403), (False, 302)])
def test_the_page_is_for_staff_who_may_view_jobs(
    client: Client, user: Any, is_staff: bool, status: int
) -> None:
    User.objects.filter(pk=user.pk).update(is_staff=is_staff)
    client.force_login(user)
    assert client.get("/jobs/").status_code == status


def test_the_command_tells_if_a_worker_on_this_host_lives(worker: None) -> None:
    info = WorkerInfo.objects.create(
        worker_id=ProcrastinateWorker.objects.get().pk,
        host="elsewhere",
        pid=1,
        started_at=timezone.now(),
        queues=[],
        tasks=[],
        periodic={},
    )
    with pytest.raises(
        CommandError, match=f"No worker is alive on {socket.gethostname()}"
    ):
        call_command("check_workers")
    call_command("check_workers", "--any")
    info.host = socket.gethostname()
    info.save()
    call_command("check_workers")
    age(21)
    for options in ([], ["--any"]):
        with pytest.raises(CommandError, match="No worker"):
            call_command("check_workers", *options)


def test_a_job_that_runs_unusually_long_is_a_problem(ship: Job[...]) -> None:
    insert = (
        "INSERT INTO procrastinate_jobs (task_name, queue_name, status)"
        " SELECT 'ship', 'ships', %s FROM generate_series(1, %s) RETURNING id"
    )
    with connection.cursor() as cursor:
        cursor.execute(insert, ["succeeded", 20])
        done = [row[0] for row in cursor.fetchall()]
        cursor.execute(insert, ["doing", 2])
        slow, usual = [row[0] for row in cursor.fetchall()]
        events = [(pk, "started", 1_000) for pk in done]
        events += [(pk, "succeeded", 990) for pk in done]
        events += [(slow, "started", 130), (usual, "started", 70)]
        cursor.execute("DELETE FROM procrastinate_events")
        cursor.executemany(
            "INSERT INTO procrastinate_events (job_id, type, at)"
            " VALUES (%s, %s, now() - make_interval(secs => %s))",
            events,
        )
    (problem,) = [text for text in stats.now().problems if "as usual" in text]
    assert problem.startswith(f"Job ship[{slow}] has run for 0:02:1")
