"""A trial: two workers with jobs, something that goes wrong, and the count of what became of it.

Each job writes one row with its id in the middle of its work. So what a fault loses, doubles or
leaves unfinished can be counted afterwards.
"""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import psutil
import psycopg
from conftest import Project, Running, Start, wait_until
from site_at_work import DEPLOYED, database_of, workers

TIMES = int(os.environ.get("TIMES", "2"))
"""How often a trial's fault happens."""

# What starts a worker again when it has ended, as in production.
SUPERVISOR = "while :; do {} --app=tasks.app worker; sleep 1; done"

TIME_MACHINE = "time-machine==3.6.0"

# A worker on a host whose clock is wrong.
WITH_WRONG_CLOCK = """
python -c '
import sys, time, time_machine
from procrastinate.cli import main
time_machine.travel(time.time() + float(sys.argv.pop(1)), tick=True).start()
main()' {}
"""

# The workers use a role that is no superuser, so that limits hold for it.
PREPARE = """
CREATE ROLE site LOGIN;
CREATE ROLE others LOGIN;
CREATE TABLE effects (id bigserial, what text, at timestamptz DEFAULT clock_timestamp());
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO site;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO site;
ALTER DATABASE dev SET synchronous_commit = on;
"""

FEED = """
INSERT INTO procrastinate_jobs (queue_name, task_name, args, lock)
SELECT 'default', 'faults.' || (ARRAY['plain', 'atomic', 'on_the_loop'])[1 + n % 3],
    jsonb_build_object('seconds', {seconds}), CASE WHEN n % 10 = 0 THEN 'lock' || n % 20 END
FROM generate_series(1, {number}) n RETURNING id
"""

RUNNING = """
SELECT pid, array_agg(j.id) AS jobs FROM procrastinate_jobs j JOIN jobs_workerinfo USING (worker_id)
WHERE status = 'doing' AND task_name LIKE 'faults.%%' GROUP BY pid
"""

# Each job's end, its effects, and the seconds from its first start to its end.
OUTCOME = """
SELECT status, task_name = 'faults.atomic' AS atomic,
    (SELECT count(*) FROM effects WHERE what = job.id::text) AS effects,
    (SELECT extract(epoch FROM max(at) FILTER (WHERE type IN ('succeeded', 'failed'))
        - min(at) FILTER (WHERE type = 'started'))
    FROM procrastinate_events WHERE job_id = job.id)::float AS seconds
FROM procrastinate_jobs job WHERE id = ANY(%s)
"""


REASONS = """
SELECT exception || ': ' || left(message, 200) AS reason, count(DISTINCT job_id) AS number
FROM jobs_jobfailure JOIN procrastinate_jobs job ON job.id = job_id
WHERE status = 'failed' AND job_id = ANY(%s) GROUP BY 1
"""


@dataclass
class Outcome:
    """What became of the jobs.

    Args:
        entered: How many were put into the queue.
        succeeded: How many succeeded.
        lost: How many are gone, or succeeded without their row.
        stuck: How many did not end.
        failed: How many failed.
        twice: How many ran twice, without `atomic`: at least once is what is promised.
        atomic_twice: How many atomic jobs left two rows: never.
        longest: The most seconds from a job's first start to its end.
        reasons: Why jobs failed, and how many.
    """

    entered: int
    succeeded: int
    lost: int
    stuck: int
    failed: int
    twice: int
    atomic_twice: int
    longest: float
    reasons: dict[str, int]


@dataclass
class Trial:
    """Workers with jobs, until the count.

    Args:
        site: The project.
        start: Starts commands.
        url: The database as the workers reach it.
        clocks: For each worker, by how many seconds its clock is wrong.
        batch: How many jobs come each half second.
        seconds: How long a job takes; the two workers run eight at once.
    """

    site: Project
    start: Start
    url: str
    clocks: tuple[int, ...] = (0, 0)
    batch: int = 10
    seconds: float = 0.3
    entered: list[int] = field(default_factory=list)
    logs: list[Running] = field(default_factory=list)
    fed: Event = field(default_factory=Event)

    def __post_init__(self) -> None:
        self.database = database_of(self.site)
        self.feeder = Thread(target=self._feed, daemon=True)

    def begin(self) -> None:
        """Start the workers, and wait until they work."""
        variables = DEPLOYED | {"DATABASE_URL": self.url, "PYTHONPATH": "."}
        for clock in self.clocks:
            packages = ("--with", TIME_MACHINE) if clock else ()
            worker = WITH_WRONG_CLOCK.strip().format(clock) if clock else "procrastinate"
            words = (*packages, "sh", "-c", SUPERVISOR.format(worker))
            self.logs.append(self.start(self.site, *words, **variables))
        self.feeder.start()
        wait_until(lambda: len(self.running()) == len(self.clocks), 120, "jobs on each worker")

    def _feed(self) -> None:
        """Put jobs into the queue; those that the database takes count."""
        while not self.fed.wait(0.5):
            with suppress(psycopg.Error):
                with psycopg.connect(self.database.url) as connection:
                    rows = connection.execute(
                        FEED.format(number=self.batch, seconds=self.seconds)
                    ).fetchall()
                self.entered += [pk for (pk,) in rows]

    def running(self) -> dict[psutil.Process, list[int]]:
        """Return the workers that run jobs, with their jobs."""
        pids = {row["pid"]: row["jobs"] for row in self.database.query(RUNNING)}
        alive = workers(self.site)
        return {process: pids[process.pid] for process in alive if process.pid in pids}

    def victim(self) -> tuple[psutil.Process, list[int]]:
        """Return a worker that runs jobs, and these jobs."""
        return random.choice(list(wait_until(self.running, 120).items()))

    def statuses(self, jobs: list[int] | None = None) -> Counter[str]:
        """Count jobs by their status."""
        jobs = self.entered if jobs is None else jobs
        query = "SELECT status FROM procrastinate_jobs WHERE id = ANY(%s)"
        return Counter(row["status"] for row in self.database.query(query, [jobs]))

    def progress(self, jobs: int = 20) -> None:
        """Wait until more jobs have succeeded."""
        enough = self.statuses()["succeeded"] + jobs
        wait_until(lambda: self.statuses()["succeeded"] >= enough, 180, "more jobs succeed")

    @contextmanager
    def until_logged(self, text: str) -> Iterator[None]:
        """Wait until what is done here has made a worker log a text."""
        before = self._logged(text)
        yield
        wait_until(lambda: self._logged(text) > before, 120, f"{text!r} in a worker's log")

    def _logged(self, text: str) -> int:
        return sum(log.output.count(text) for log in self.logs)

    def cut_sessions(self, number: int = 1_000) -> None:
        """End sessions of the workers, chosen at random."""
        self.database.execute(
            "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity"
            f" WHERE usename = 'site' ORDER BY random() LIMIT {number}) chosen"
        )

    @contextmanager
    def connections_taken(self) -> Iterator[None]:
        """Hold all connections that the server has left."""
        url = self.database.url.replace("//dev@", "//others@")
        with ExitStack() as others:
            with suppress(psycopg.OperationalError):
                while True:
                    others.enter_context(psycopg.connect(url))
            yield

    def stop_database(self, how: signal.Signals) -> None:
        """Stop the database server: SIGINT is a fast shutdown, SIGQUIT an immediate one."""
        (row,) = self.database.query("SELECT current_setting('data_directory') AS data")
        pid = int(Path(row["data"], "postmaster.pid").read_text().split()[0])
        server = psutil.Process(pid)
        server.send_signal(how)
        server.wait(60)

    def start_database(self) -> None:
        self.site.run("manage.py", "devdb", "up")

    def end(self, limit: float = 180) -> Outcome:
        """Wait until all jobs have ended, and count."""
        self.fed.set()
        self.feeder.join(60)
        deadline = time.monotonic() + limit
        while self.statuses().keys() & {"todo", "doing"} and time.monotonic() < deadline:
            time.sleep(0.2)
        rows = self.database.query(OUTCOME, [self.entered])
        by_status = Counter(row["status"] for row in rows)
        done = [row for row in rows if row["status"] == "succeeded"]
        return Outcome(
            entered=len(self.entered),
            succeeded=len(done),
            lost=len(self.entered) - len(rows) + sum(not row["effects"] for row in done),
            stuck=by_status["todo"] + by_status["doing"],
            failed=by_status["failed"],
            twice=sum(row["effects"] > 1 for row in done if not row["atomic"]),
            atomic_twice=sum(row["effects"] > 1 for row in done if row["atomic"]),
            longest=max(row["seconds"] or 0 for row in rows),
            reasons={
                row["reason"]: row["number"] for row in self.database.query(REASONS, [self.entered])
            },
        )


@contextmanager
def tasks_of_faults(site: Project) -> Iterator[None]:
    """Give the site's worker the tasks of `worker_jobs.py`."""
    tasks = site.path / "tasks" / "faults.py"
    tasks.write_bytes(Path(__file__).with_name("worker_jobs.py").read_bytes())
    try:
        yield
    finally:
        tasks.unlink()


Fault = Callable[[Trial], None]
