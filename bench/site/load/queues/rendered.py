"""The rendered project: a bridge, as its apps have one."""

from jobs.bridge import job

from load import jobs

JOBS = {name: job(name=name)(body) for name, body in {**jobs.SYNC, **jobs.ASYNC}.items()}


def enqueue(name: str, sent: float) -> None:
    """Add one job to the queue."""
    JOBS[name].defer(sent=sent)


def enqueue_many(name: str, sents: list[float]) -> None:
    """Add jobs to the queue in one call."""
    JOBS[name].batch_defer([JOBS[name].call(sent=sent) for sent in sents])
