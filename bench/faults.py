"""The faults: what becomes of jobs when a process is killed, or a transaction is rolled back."""

import time

from .sites import Site, Unavailable
from .workloads import Effort, Figures

KILL_EVERY = 20  # effects
LIMIT = 120  # seconds, for workers that make no progress

EFFECTS = "SELECT job FROM load_effect ORDER BY id"
NEW_ROWS = "SELECT id FROM load_item WHERE id > 1000"  # the migration made the others


def kills(site: Site, effort: Effort) -> Figures:
    """Kill all workers again and again, and count what became of the jobs.

    Raises:
        Unavailable: The workers stop before the last kill.
    """
    site.clear()
    site.produce("numbered", "effect", effort.calls)
    jobs = set(range(1, effort.calls + 1))
    times = effort.calls // KILL_EVERY * 2 // 5  # a kill costs some queues many jobs
    for kill in range(1, times + 1):
        with site.workers():
            wait_for_effects(site, kill * KILL_EVERY)
    left = finish(site)
    done = numbers(site, EFFECTS)
    return {
        "kills": times,
        "jobs": len(jobs),
        "effects": len(done),
        "doubled": len(done) - len(set(done)),
        "lost": len(jobs - set(done) - left),
        "left over": len(left),
        "left over, with effect": len(left & set(done)),
    }


def rollback(site: Site, effort: Effort) -> Figures:
    """Count the jobs that run although the transaction that enqueued them was rolled back."""
    site.clear()
    site.produce("rollback", "effect", effort.calls)
    finish(site)
    return {"ran after a rollback": len(set(numbers(site, EFFECTS)))}


def commit(site: Site, effort: Effort) -> Figures:
    """Count the jobs that are lost when a process is killed right after its transaction's commit."""
    site.clear()
    site.produce("commit", "effect", effort.calls)
    left = finish(site)
    rows = set(numbers(site, NEW_ROWS))
    return {"lost after a commit": len(rows - set(numbers(site, EFFECTS)) - left)}


def wait_for_effects(site: Site, number: int) -> None:
    """Wait until that many jobs have had their effect.

    Raises:
        Unavailable: They do not.
    """
    end = time.monotonic() + LIMIT
    while (done := len(numbers(site, EFFECTS))) < number:
        if time.monotonic() > end:
            raise Unavailable(f"the workers stopped after {done} effects")
        time.sleep(0.02)


def finish(site: Site) -> set[int]:
    """Run the workers until the queue is empty, or the limit is reached; return what is left."""
    end = time.monotonic() + LIMIT
    before = None
    with site.workers():
        while True:
            state = site.produce("unfinished", "effect", 0), len(numbers(site, EFFECTS))
            # Twice the same: a queue that has forgotten a job may still run it.
            if (state == before and not state[0]) or time.monotonic() > end:
                return set(state[0])
            before = state
            time.sleep(3)


def numbers(site: Site, query: str) -> list[int]:
    """Return the numbers that a query finds in the site's database."""
    return [int(str(number)) for (number,) in site.postgres.execute(query, database="bench")]
