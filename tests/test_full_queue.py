"""A week of finished jobs and a long queue make nothing slow."""

import json
import re
from pathlib import Path
from typing import Any

import psycopg
import pytest
from browser import Database
from conftest import Project
from site_at_work import database_of

SCRIPT = Path(__file__).with_name("queue_costs.py")

# Only the last thousand finished jobs still name their worker, see jobs/upkeep.py.
FILL = """
SET session_replication_role = replica;
INSERT INTO procrastinate_workers DEFAULT VALUES;
INSERT INTO procrastinate_jobs (queue_name, task_name, status, attempts, args, worker_id)
SELECT 'default', 'myapp.import_contacts',
    (CASE WHEN n % 1000 = 0 THEN 'failed' ELSE 'succeeded' END)::procrastinate_job_status,
    1, '{{"import_id": 1}}',
    CASE WHEN n > {finished} - 1000 THEN (SELECT max(id) FROM procrastinate_workers) END
FROM generate_series(1, {finished}) n;
INSERT INTO procrastinate_jobs (queue_name, task_name, args)
SELECT 'default', 'myapp.import_contacts', '{{"import_id": 1}}'
FROM generate_series(1, {waiting});
INSERT INTO procrastinate_events (job_id, type, at)
SELECT id, type::procrastinate_job_event_type,
    now() - interval '6 days' * (1 - id::float / ({finished} + {waiting}))
FROM procrastinate_jobs, unnest(CASE WHEN status = 'todo'
    THEN ARRAY['deferred'] ELSE ARRAY['deferred', 'started', 'succeeded'] END) type;
INSERT INTO jobs_jobfailure (job_id, attempt, exception, message, traceback, host, at)
SELECT id, 1, 'KeyError', '', repeat('a line of the traceback', 100), '', now()
FROM procrastinate_jobs WHERE status = 'failed';
SET session_replication_role = DEFAULT;
"""

# A scan below a Limit ends early, unless it has a filter.
ENDED = re.compile(r"Limit .*\n +->  Seq Scan .*(?:\n(?! +Filter)|$)")
READS_ALL = re.compile(r"Seq Scan on procrastinate_(jobs|events)\b")


@pytest.fixture
def database(site: Project) -> Database:
    """The development database, without jobs."""
    return database_of(site)


def fill(database: Database, finished: int, waiting: int) -> None:
    database.execute(FILL.format(finished=finished, waiting=waiting))
    vacuum(database)


def vacuum(database: Database) -> None:
    """Do what autovacuum would have done by then."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")


def reads_all(plan: str) -> bool:
    """Tell if a plan reads all jobs or all events."""
    return bool(READS_ALL.search(ENDED.sub("", plan)))


def measure(project: Project) -> dict[str, Any]:
    """Return the times and the plans of the pages and the upkeep."""
    env = {
        "DJANGO_SETTINGS_MODULE": f"{project.slug}.settings",
        "PYTHONPATH": ".",
        "METRICS_TOKEN": "a token",
    }
    found: dict[str, Any] = json.loads(project.run("--quiet", "python", str(SCRIPT), **env).stdout)
    return found


def test_no_page_reads_all_jobs(site: Project, database: Database) -> None:
    fill(database, finished=100_000, waiting=10_000)
    for name, (_, plans) in measure(site).items():
        assert plans, name
        for plan in plans:
            assert not reads_all(plan), f"{name}: {plan}"


@pytest.mark.exhaustive
@pytest.mark.timeout(1200)
def test_two_million_jobs_make_nothing_slow(
    site: Project, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(database, finished=0, waiting=0)
    empty = measure(site)
    fill(database, finished=2_000_000, waiting=200_000)
    full = measure(site)
    with capsys.disabled():
        for name, (time, plans) in full.items():
            before = empty[name][0]
            print(f"\n{name}: {before:.1f} ms empty, {time:.1f} ms full, {time / before:.1f} times")
            print(*plans, sep="\n")
            assert not any(map(reads_all, plans)), name
