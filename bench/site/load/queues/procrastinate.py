"""Procrastinate, as its documentation for Django shows it."""

from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob

from load import jobs

TASKS = {name: app.task(name=name)(body) for name, body in {**jobs.SYNC, **jobs.ASYNC}.items()}
TASKS["locked"] = app.task(name="locked", lock="one")(jobs.noop)


def enqueue(name: str, sent: float) -> None:
    """Add one job to the queue."""
    TASKS[name].defer(sent=sent)


def enqueue_many(name: str, sents: list[float]) -> None:
    """Add jobs to the queue in one call."""
    TASKS[name].batch_defer(*({"sent": sent} for sent in sents))


def unfinished(name: str) -> list[float]:
    """Return the arguments of the jobs that have not succeeded."""
    found = ProcrastinateJob.objects.filter(task_name=name).exclude(status="succeeded")
    return [job.args["sent"] for job in found]
