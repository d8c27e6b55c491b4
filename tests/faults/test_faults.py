"""Whatever goes wrong, no job is lost or stuck, and no atomic one takes effect twice."""

import os
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import psycopg
import pytest
from conftest import Project, Start, wait_until
from psycopg.types.json import Jsonb
from site_at_work import database_of, workers

from .conftest import Record
from .relay import Cut, Relay
from .trial import TIMES, Fault, Outcome, Trial


def run(trial: Trial, fault: Fault, record_property: Record) -> Outcome:
    """Let a fault happen, and check what became of the jobs."""
    trial.begin()
    fault(trial)
    outcome = trial.end()
    record_property("outcome", asdict(outcome))
    assert outcome.succeeded == outcome.entered > 0, outcome
    assert not outcome.lost, outcome
    assert not outcome.atomic_twice, outcome
    if fault is rolling_restarts:
        assert not trial.database.query("SELECT 1 FROM jobs_jobfailure"), "jobs were cut short"
    return outcome


def worker_killed(trial: Trial) -> None:
    for _ in range(TIMES):
        worker, _ = trial.victim()
        worker.kill()
        trial.progress()


def rolling_restarts(trial: Trial) -> None:
    for _ in range(TIMES):
        for worker in workers(trial.site):
            worker.terminate()
            worker.wait(30)
            trial.progress()


def restart_database(how: signal.Signals, seconds: float = 0) -> Fault:
    def fault(trial: Trial) -> None:
        for _ in range(1 if seconds else TIMES):
            trial.victim()
            trial.stop_database(how)
            time.sleep(seconds)
            trial.start_database()
            trial.progress()

    return fault


def sessions_cut(trial: Trial) -> None:
    for _ in range(5 * TIMES):
        trial.cut_sessions(2)
        trial.progress(5)
    for _ in range(TIMES):
        trial.cut_sessions()
        trial.progress(5)


def role_limit(trial: Trial) -> None:
    """The role may have three sessions, and the workers want more than a dozen."""
    for _ in range(TIMES):
        with trial.until_logged("too many connections for role"):
            trial.database.execute("ALTER ROLE site CONNECTION LIMIT 3")
            trial.cut_sessions()
        trial.database.execute("ALTER ROLE site CONNECTION LIMIT -1")
        trial.progress()


def server_limit(trial: Trial) -> None:
    """Others take all the server's connections."""
    for _ in range(TIMES):
        with trial.connections_taken():
            trial.cut_sessions()
            with trial.connections_taken(), trial.until_logged("remaining connection slots"):
                pass
        trial.progress()


def read_only(trial: Trial) -> None:
    def switch(value: str) -> None:
        with psycopg.connect(trial.database.url, autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
            connection.execute("SELECT pg_reload_conf()")

    for _ in range(TIMES):
        with trial.until_logged("in a read-only transaction"):
            switch("on")
        switch("off")
        trial.progress()


def worker_frozen(trial: Trial) -> None:
    """It goes on when its jobs have been rescued and have ended elsewhere."""
    worker, jobs = trial.victim()
    worker.suspend()
    wait_until(lambda: trial.statuses(jobs) == {"succeeded": len(jobs)}, 120)
    worker.resume()
    trial.progress()


SHORT: dict[str, Fault] = {
    "workers killed (SIGKILL)": worker_killed,
    "rolling restarts (SIGTERM)": rolling_restarts,
    "database restarted, fast": restart_database(signal.SIGINT),
    "database restarted, immediate": restart_database(signal.SIGQUIT),
    "database sessions cut at random": sessions_cut,
    "limit of the role's connections": role_limit,
    "limit of the server's connections": server_limit,
    "database read-only": read_only,
}
LONG: dict[str, Fault] = {
    "database away for 60 s": restart_database(signal.SIGINT, 60),
    "a worker frozen (SIGSTOP) until rescued": worker_frozen,
}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "name",
    [
        *(pytest.param(name, marks=pytest.mark.slow) for name in SHORT),
        *(pytest.param(name, marks=pytest.mark.exhaustive) for name in LONG),
    ],
)
def test_nothing_is_lost(
    site: Project, start: Start, prepared: str, record_property: Record, name: str
) -> None:
    run(Trial(site, start, prepared), (SHORT | LONG)[name], record_property)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("lost", ["request", "reply"])
def test_a_connection_is_cut_while_a_jobs_end_is_written(
    site: Project,
    start: Start,
    prepared: str,
    relay: Relay,
    record_property: Record,
    lost: Literal["request", "reply"],
) -> None:
    """The server does not get what ends a job, or does it and its reply is lost."""

    def fault(trial: Trial) -> None:
        for _ in range(5 * TIMES):
            relay.cuts.append(Cut(b"succeeded", lost))
            wait_until(lambda: not relay.cuts)
            trial.progress(5)

    url = f"postgresql://site@127.0.0.1:{relay.server_address[1]}/dev"
    outcome = run(Trial(site, start, url), fault, record_property)
    # Only the end is written again.
    assert not outcome.twice, outcome


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_clocks_differ(site: Project, start: Start, prepared: str, record_property: Record) -> None:
    """By an hour in both directions; each worker dies once."""
    run(Trial(site, start, prepared, clocks=(3600, -3600)), worker_killed, record_property)


def fill(path: Path) -> None:
    """Write a file until its disk is full."""
    with path.open("wb", 0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_disk_is_full(
    site: Project, start: Start, prepared: str, record_property: Record
) -> None:
    """The tables are on a small disk, and something else fills it."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    mount = ("mount", "-t", "tmpfs", "-o", "size=100m,mode=777", "tmpfs", str(folder))
    if os.geteuid() or subprocess.run(mount, check=False).returncode:
        pytest.skip("may not mount a tmpfs")
    tables, filler = folder / "tables", folder / "filler"

    def fault(trial: Trial) -> None:
        for _ in range(TIMES):
            with trial.until_logged("No space left"):
                fill(filler)
            filler.unlink()
            trial.progress()

    try:
        tables.mkdir()
        owner = Path(database_of(site).query("SHOW data_directory")[0]["data_directory"]).stat()
        os.chown(tables, owner.st_uid, owner.st_gid)
        other = site.database_url.removesuffix("dev") + "postgres"
        with psycopg.connect(other, autocommit=True) as connection:
            connection.execute(f"CREATE TABLESPACE small LOCATION '{tables}'")
            connection.execute("ALTER DATABASE dev SET TABLESPACE small")
        run(Trial(site, start, prepared), fault, record_property)
    finally:
        site.run("manage.py", "devdb", "stop")
        subprocess.run(["umount", "-l", str(folder)], check=True)


ODD = (
    "own cause, no text, stop iteration, generator, exit, keyboard, memory, recursion, group,"
    " zero byte, no unicode, long, deep, no class"
)
OTHERS = (
    "wrong, leave, fail, cancels_itself, closes_the_loop, unknown, uses_another_database,"
    " atomic_failure, atomic_lazy, endless_wait"
)
POISON: list[tuple[str, dict[str, Any]]] = [
    *(("odd", {"how": how}) for how in ODD.split(", ")),
    *((name, {}) for name in OTHERS.split(", ")),
    ("stops_in_time", {"seconds": 1_000}),
    ("wrong", {"unknown": "argument"}),
]
# Each ends its worker until it fails.
DEADLY: list[tuple[str, dict[str, Any]]] = [
    *(("dies", {"how": how}) for how in ("exit", "kill", "segfault", "abort")),
    *((name, {}) for name in ("endless", "blocking", "stops_the_loop")),
]

SUSPECTS = """
SELECT 1 FROM procrastinate_jobs job JOIN jobs_interruption ON job_id = job.id
WHERE status IN ('todo', 'doing') AND deaths > 1
"""


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "poison",
    [
        pytest.param(POISON, marks=pytest.mark.slow, id="poison that fails"),
        pytest.param(DEADLY, marks=pytest.mark.exhaustive, id="poison that ends its worker"),
    ],
)
def test_poison_harms_no_other_job(
    site: Project,
    start: Start,
    prepared: str,
    record_property: Record,
    poison: list[tuple[str, dict[str, Any]]],
) -> None:
    """Each kind fails, and its reason is kept."""

    poisonous: list[int] = []

    def fault(trial: Trial) -> None:
        for task, arguments in poison:
            with psycopg.connect(trial.database.url) as connection:
                (job,) = connection.execute(
                    "INSERT INTO procrastinate_jobs (queue_name, task_name, args)"
                    " VALUES ('default', %s, %s) RETURNING id",
                    [f"faults.{task}", Jsonb(arguments)],
                ).fetchone() or (0,)
            poisonous.append(job)
            began = time.monotonic()
            wait_until(
                lambda job=job: trial.statuses([job]) == {"failed": 1},  # type: ignore[misc]
                600,
                f"{task} {arguments} fails",
            )
            print(f"{task} {arguments}: failed after {time.monotonic() - began:.0f} s")
            # A job that ran beside two bad ones may fail: docs/guarantees.md says so.
            wait_until(lambda: not trial.database.query(SUSPECTS), 120, "no job is suspect")
        trial.progress()
        explained = "SELECT DISTINCT job_id FROM jobs_jobfailure WHERE job_id = ANY(%s)"
        # The reason of a job that no task is for comes within a minute.
        wait_until(lambda: len(trial.database.query(explained, [poisonous])) == len(poison), 120)

    run(Trial(site, start, prepared), fault, record_property)
