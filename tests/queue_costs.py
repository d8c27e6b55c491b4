"""Measures the queries of the queue's pages and of its upkeep.

test_full_queue.py runs this in a rendered project, with the project's Python. The output is JSON:
for each page or task the best time in milliseconds, and the plans of its queries.
"""

import json
import logging
import time
from collections.abc import Callable
from typing import Any

import django

django.setup()

from django.conf import settings
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from jobs import search, upkeep
from jobs.models import QueuedJob
from tasks import app
from users.models import User

# Smaller than even the smaller table that test_full_queue.py fills.
search.LARGEST_WINDOW = search.WINDOW
LIST = "/jobs/list/"
PAGES = {
    "list": LIST,
    "list, failed": f"{LIST}?state=failed",
    "list, waiting": f"{LIST}?state=waiting",
    "list, none running": f"{LIST}?state=running",
    "list, one queue in the last day": f"{LIST}?queue=default&ended=day",
    "list, a task that has no job": f"{LIST}?task=myapp.send_summary",
    "list, a text that no job has": f"{LIST}?text=nowhere",
    "list, older": f"{LIST}?state=failed&before=50000",
    "job": "/jobs/{}/",
    "queue page": "/jobs/",
    "metrics": "/metrics",
}


def get(client: Client, path: str) -> None:
    token = {"authorization": f"Bearer {settings.METRICS_TOKEN}"}
    assert client.get(path, headers=token).status_code == 200


def retry_all(client: Client) -> None:
    answer = client.post(f"{LIST}?state=failed", {"action": "retry_job", "all": "on"})
    assert answer.status_code == 302


def stop_worker() -> None:
    """Delete a worker's row. Its jobs are updated first, as their foreign key would do it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT max(id) FROM procrastinate_workers")
        worker = cursor.fetchone()
        cursor.execute(
            "UPDATE procrastinate_jobs SET worker_id = NULL WHERE worker_id = %s", worker
        )
        cursor.execute("SELECT procrastinate_unregister_worker_v1(%s)", worker)


def measure(work: Callable[[], object]) -> float:
    """Return the best of five times, in milliseconds; changes are rolled back."""
    times = []
    for _ in range(5):
        with transaction.atomic():
            begun = time.perf_counter()
            work()
            times.append(time.perf_counter() - begun)
            transaction.set_rollback(True)
    return min(times) * 1000


def plans(work: Callable[[], object]) -> list[str]:
    """Return the plans of all queries about jobs."""
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        work()
        transaction.set_rollback(True)
    found = []
    for query in queries.captured_queries:
        sql = query["sql"].strip()
        if "procrastinate_" in sql and not sql.startswith("SELECT procrastinate_"):
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN {sql}")
                found.append("\n".join([sql, *(line for (line,) in cursor.fetchall())]))
    return found


def main() -> dict[str, Any]:
    logging.disable()
    client = Client(SERVER_NAME="localhost")
    client.force_login(User.objects.get(username="dev"))
    failed = QueuedJob.objects.filter(status="failed").order_by("pk").first()
    pages = {name: path.format(failed.pk if failed else "list") for name, path in PAGES.items()}
    works: dict[str, Callable[[], object]] = {
        name: lambda path=path: get(client, path) for name, path in pages.items()
    }
    works |= {
        "run again, all that failed": lambda: retry_all(client),
        "rescue": lambda: upkeep.rescue_stalled_jobs(app),
        "watch": lambda: upkeep.watch(),
        "prune": lambda: upkeep.prune(),
        "worker stop": stop_worker,
    }
    return {name: [measure(work), plans(work)] for name, work in works.items()}


if __name__ == "__main__":
    print(json.dumps(main()))
