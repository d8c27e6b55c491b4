"""How fast Procrastinate's workers are with large tables, and with an old snapshot."""

import time
from contextlib import nullcontext

import psycopg

from .peers import PLAIN, RENDERED
from .sites import Site, run
from .workloads import Effort, Figures, work

FILL = {
    "waiting": """
        INSERT INTO procrastinate_jobs (queue_name, task_name, args)
        SELECT 'default', 'real', '{{"sent": 0}}' FROM generate_series(1, {number})
    """,
    "waiting, a lock each": """
        INSERT INTO procrastinate_jobs (queue_name, task_name, args, lock)
        SELECT 'default', 'real', '{{"sent": 0}}', n FROM generate_series(1, {number}) AS n
    """,
    "finished": """
        ALTER TABLE procrastinate_jobs DISABLE TRIGGER USER;
        INSERT INTO procrastinate_jobs (queue_name, task_name, args, status, attempts)
        SELECT 'default', 'real', '{{"sent": 0}}', 'succeeded', 1 FROM generate_series(1, {number});
        ALTER TABLE procrastinate_jobs ENABLE TRIGGER USER;
        INSERT INTO procrastinate_events (job_id, type)
        SELECT id, type::procrastinate_job_event_type
        FROM procrastinate_jobs, unnest('{{deferred,started,succeeded}}'::text[]) AS type
    """,
}


def sizes(site: Site, effort: Effort) -> Figures:
    """Measure how fast real jobs are done while the tables hold other jobs."""
    if site.peer not in (PLAIN, RENDERED):
        return {}
    figures = {
        "nothing else": drain(site, effort),
        "an old snapshot": drain(site, effort, snapshot=True),
    }
    for kind, number in (("waiting", 100_000), ("waiting", 1_000_000), ("finished", 2_000_000)):
        figures[f"{number:,} {kind}"] = drain(site, effort, filled(site, kind, number))
    # Too few waiting jobs for autovacuum: by its statistics, PostgreSQL expects none.
    finished = filled(site, "finished", 2_000_000)
    for kind in ("waiting", "waiting, a lock each"):
        template = filled(site, kind, 100_000, finished)
        figures[f"2,000,000 finished, then 100,000 {kind}"] = drain(site, effort, template)
    return figures


def check(site: Site, effort: Effort) -> Figures:
    """Measure how long `manage.py check` takes to compare a million waiting jobs with the tasks."""
    if site.peer != RENDERED:
        return {}
    site.clear(filled(site, "waiting", 1_000_000))
    begun = time.monotonic()
    run(["python", "manage.py", "check", "--database=default"], site.project, site.env())
    return {"check --database default, s": time.monotonic() - begun}


def filled(site: Site, kind: str, number: int, base: str = "") -> str:
    """Return the name of a database with that many jobs; make it if it does not exist."""
    name = "_".join(["".join(filter(str.isalpha, kind)), str(number), base or site.template])
    if not site.postgres.execute(f"SELECT 1 FROM pg_database WHERE datname = '{name}'"):
        site.postgres.create(name, base or site.template)
        site.postgres.execute(FILL[kind].format(number=number), database=name)
        if not base:
            site.postgres.execute("VACUUM ANALYZE", database=name)
    return name


def drain(site: Site, effort: Effort, template: str = "", snapshot: bool = False) -> float:
    """Measure as `workloads.drain`, in a copy of a database or during a long transaction."""
    site.clear(template)
    with psycopg.connect(site.postgres.database("bench")) if snapshot else nullcontext() as reader:
        if reader:
            reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            reader.execute("SELECT count(*) FROM procrastinate_jobs")
        if "waiting" not in template:
            site.produce("fill", "real", effort.jobs)
        return work(site, effort)[0]
