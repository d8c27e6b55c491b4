"""Huey with its own Django app."""

from huey.contrib.djhuey import db_task

from load import jobs

TASKS = {name: db_task(name=name)(body) for name, body in jobs.SYNC.items()}


def enqueue(name: str, sent: float) -> None:
    """Add one job to the queue."""
    TASKS[name](sent)
