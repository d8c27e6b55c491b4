"""The scenarios of a public benchmark of job queues, rebuilt from their description.

https://github.com/hardbyte/postgresql-job-queue-benchmarking (its sweep of 2026-05-09), in which
Procrastinate 3.8 recovers from three of the five faults and completes two of the four pressures.
As there: two workers, a steady stream of jobs, a minute at rest, the fault or the pressure, and a
minute after it. Afterwards at least as many jobs must end as come, but for a tenth.
Pressures last 20 to 120 minutes there, and three here. Here, what has ended is started again.
"""

import signal
import time
from dataclasses import asdict
from threading import Event, Thread

import psutil
import psycopg
import pytest
from conftest import Project, Start, wait_until
from site_at_work import workers

from .conftest import Record
from .trial import Fault, Trial

MINUTE = 60
PRESSURE = 3 * MINUTE

BATCH = 20
"""Half as many jobs as the workers can run."""


def rates(trial: Trial) -> tuple[float, float]:
    """Return how many jobs come and how many succeed each second, in a minute."""
    came, succeeded = len(trial.entered), trial.statuses()["succeeded"]
    time.sleep(MINUTE)
    came, succeeded = len(trial.entered) - came, trial.statuses()["succeeded"] - succeeded
    return came / MINUTE, succeeded / MINUTE


def first_worker(trial: Trial) -> psutil.Process:
    """Return the worker that the first supervisor has started."""
    pid = trial.logs[0].process.pid

    def find() -> psutil.Process | None:
        below = psutil.Process(pid).children(recursive=True)
        return next((one for one in workers(trial.site) if one in below), None)

    worker = wait_until(find)
    assert worker
    return worker


def crash_recovery(trial: Trial) -> None:
    """One of the workers is killed, and started again after a minute."""
    worker = first_worker(trial)
    supervisor = psutil.Process(worker.ppid())
    supervisor.suspend()
    worker.kill()
    time.sleep(MINUTE)
    supervisor.resume()


def repeated_kills(trial: Trial) -> None:
    for _ in range(6):
        first_worker(trial).kill()
        time.sleep(20)


def postgres_restart(trial: Trial) -> None:
    trial.stop_database(signal.SIGINT)
    trial.start_database()
    time.sleep(MINUTE)


def backend_kills(trial: Trial) -> None:
    for _ in range(MINUTE):
        trial.cut_sessions(2)
        time.sleep(1)


def pool_exhaustion(trial: Trial) -> None:
    """Others hold all connections that the server has left."""
    with trial.connections_taken():
        time.sleep(MINUTE)


def idle_in_transaction(trial: Trial) -> None:
    """A transaction with an id stays open, so vacuum removes no dead rows."""
    with psycopg.connect(trial.database.url) as connection:
        connection.execute("SELECT txid_current()")
        time.sleep(PRESSURE)


def active_readers(trial: Trial) -> None:
    """Four sessions read all jobs and events again and again, each in one transaction."""
    over = Event()

    def read() -> None:
        with psycopg.connect(trial.database.url) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            while not over.is_set():
                connection.execute("SELECT count(*) FROM procrastinate_jobs, pg_sleep(0.1)")
                connection.execute("SELECT count(*) FROM procrastinate_events")

    readers = [Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    time.sleep(PRESSURE)
    over.set()
    for reader in readers:
        reader.join()


def sustained_high_load(trial: Trial) -> None:
    trial.batch = BATCH * 3 // 2
    time.sleep(PRESSURE)
    trial.batch = BATCH


def event_burst(trial: Trial) -> None:
    """More jobs than the workers can run; afterwards they catch up."""
    trial.batch = BATCH * 3
    time.sleep(PRESSURE)
    trial.batch = BATCH


FAULTS = [crash_recovery, repeated_kills, postgres_restart, backend_kills, pool_exhaustion]
PRESSURES = [idle_in_transaction, active_readers, sustained_high_load, event_burst]


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("scenario", FAULTS + PRESSURES, ids=lambda one: one.__name__)
def test_a_scenario_of_the_public_benchmark(
    site: Project, start: Start, prepared: str, record_property: Record, scenario: Fault
) -> None:
    """Afterwards as many jobs end as before, none is lost, and the workers stop in time."""
    trial = Trial(site, start, prepared, batch=BATCH, seconds=0.1)
    trial.begin()
    _, before = rates(trial)
    scenario(trial)
    come, after = rates(trial)
    outcome = trial.end(1800)
    record_property("outcome", asdict(outcome))
    record_property("rates", f"{before:.1f} jobs/s, afterwards {after:.1f} of {come:.1f} that came")
    assert outcome.succeeded == outcome.entered, outcome
    assert not outcome.atomic_twice, outcome
    assert after > 0.9 * come
    for worker in workers(site):
        worker.terminate()
        worker.wait(30)
