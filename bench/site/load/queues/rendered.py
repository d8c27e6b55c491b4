"""The rendered project: a bridge that declares the jobs, as in its apps."""

import os

from jobs.bridge import job

from load import jobs

ATOMIC = os.environ.get("BENCH_VARIANT") == "atomic"
JOBS = {name: job(name=name, atomic=ATOMIC)(body) for name, body in jobs.SYNC.items()}
JOBS |= {name: job(name=name)(body) for name, body in jobs.ASYNC.items()}
JOBS["locked"] = job(name="locked", lock="one")(jobs.noop)


def enqueue(name: str, sent: float) -> None:
    """Add one job to the queue."""
    JOBS[name].defer(sent=sent)


def enqueue_many(name: str, sents: list[float]) -> None:
    """Add jobs to the queue in one call."""
    JOBS[name].batch_defer([JOBS[name].call(sent=sent) for sent in sents])


def unfinished(name: str) -> list[float]:
    """Return the arguments of the jobs that have not succeeded."""
    from jobs.models import QueuedJob

    found = QueuedJob.objects.filter(task_name=name).exclude(status="succeeded")
    return [queued.args["sent"] for queued in found]
