"""The workloads: each function measures one on a site, and returns the figures."""

import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import quantiles

from .sites import Site, Unavailable, families

MARK = struct.Struct("dd")  # as in load.jobs: when a job was sent, when it was done
LOCKED = 12  # jobs of one lock
WARM_UP = 0.2  # of the jobs are not counted: a site's workers do not all start at once

Figures = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much is done for one figure.

    Attributes:
        rounds: How often everything is measured.
        calls: How many jobs are enqueued one by one.
        jobs: How many jobs wait for the workers.
        samples: How many jobs are enqueued while the workers are idle.
        limit: After how many seconds of work to stop.
        idle: For how many seconds to measure idle workers.
    """

    rounds: int
    calls: int
    jobs: int
    samples: int
    limit: float
    idle: float


FULL = Effort(rounds=3, calls=400, jobs=1000, samples=50, limit=10, idle=3)
QUICK = Effort(rounds=2, calls=100, jobs=400, samples=20, limit=4, idle=1)


def enqueue(site: Site, effort: Effort) -> Figures:
    """Measure calls per second, and how much slower a row is created together with a job."""
    site.clear()
    figures: Figures = site.produce("enqueue", "noop", effort.calls)
    return figures


def drain(job: str, site: Site, effort: Effort) -> Figures:
    """Measure how many jobs per second the workers do, if they can run such jobs."""
    if job not in site.peer.jobs:
        return {}
    site.clear()
    site.produce("fill", job, effort.jobs)
    rate, milliseconds = work(site, effort)
    return {f"{job}, jobs/s": rate, f"{job}, CPU ms/job": milliseconds}


def work(site: Site, effort: Effort) -> tuple[float, float]:
    """Run the workers until the queue is empty or the limit is reached.

    Returns:
        How many jobs they do per second, and their processor time for one in milliseconds,
        which varies less than the rate if other programs run.

    Raises:
        Unavailable: They do hardly any jobs.
    """
    with site.workers() as workers:
        wait_for_marks(site, 1, 0)
        begun, before = len(marks(site)), cpu(workers)
        wait_for_marks(site, effort.jobs, effort.limit)
        done = sorted(moment for _, moment in marks(site))
        used = cpu(workers) - before
    if len(done) < begun + 10:
        raise Unavailable(f"only {len(done)} of {effort.jobs} jobs were done")
    skipped = int(len(done) * WARM_UP)
    rate = (len(done) - 1 - skipped) / (done[-1] - done[skipped])
    return rate, 1000 * used / (len(done) - begun)


def latency(site: Site, effort: Effort) -> Figures:
    """Measure milliseconds from a call to the start of its job, and the cost of idle workers."""
    with idle_workers(site) as workers:
        site.produce("latency", "noop", effort.samples)
        before = cpu(workers)
        time.sleep(effort.idle)
        figures = {
            "memory, MB": sum(process.memory_full_info().pss for process in families(workers))
            / 1e6,
            "idle CPU, %": 100 * (cpu(workers) - before) / effort.idle,
        }
    waits = [1000 * (done - sent) for sent, done in all_marks(site, effort.samples)]
    cuts = quantiles(waits, n=100, method="inclusive")
    return {"p50, ms": cuts[49], "p95, ms": cuts[94], "p99, ms": cuts[98]} | figures


def one_lock(site: Site, effort: Effort) -> Figures:
    """Measure milliseconds until idle workers have done jobs that share a lock, one by one."""
    if "locked" not in site.peer.jobs:
        return {}
    with idle_workers(site):
        site.produce("fill", "locked", LOCKED)
        wait_for_marks(site, LOCKED, 30)
    sent, done = zip(*all_marks(site, LOCKED), strict=True)
    return {f"{LOCKED} jobs of one lock, ms": 1000 * (max(done) - min(sent))}


@contextmanager
def idle_workers(site: Site) -> Iterator[list[int]]:
    """Run the workers on an empty queue; yield their pids once they have done a job."""
    site.clear()
    with site.workers() as workers:
        site.produce("fill", "noop", 1)
        wait_for_marks(site, 1, 0)
        site.marks.write_bytes(b"")
        yield workers


def cpu(workers: list[int]) -> float:
    """Return the seconds of processor time that workers and their processes have used."""
    return sum(sum(process.cpu_times()[:2]) for process in families(workers))


def marks(site: Site) -> list[tuple[float, ...]]:
    """Return when each of the site's jobs was sent, and when it was done."""
    data = site.marks.read_bytes()
    return list(MARK.iter_unpack(data[: len(data) // MARK.size * MARK.size]))


def all_marks(site: Site, number: int) -> list[tuple[float, ...]]:
    """Return the marks of that many jobs.

    Raises:
        Unavailable: Fewer were done.
    """
    found = marks(site)
    if len(found) < number:
        raise Unavailable(f"only {len(found)} of {number} jobs were done")
    return found


def wait_for_marks(site: Site, number: int, limit: float) -> None:
    """Wait until jobs are done: 30 seconds for the first one, then the limit in seconds."""
    end = time.monotonic() + 30
    begun = False
    while (size := site.marks.stat().st_size) < number * MARK.size and time.monotonic() < end:
        if size and not begun:
            begun, end = True, time.monotonic() + limit
        time.sleep(0.02)
