"""Celery, with its fixup for Django."""

from celery import Celery

from load import jobs

app = Celery("load", namespace="CELERY")
app.config_from_object("django.conf:settings", namespace="CELERY")
TASKS = {name: app.task(name=name, ignore_result=True)(body) for name, body in jobs.SYNC.items()}


def enqueue(name: str, sent: float) -> None:
    """Add one job to the queue."""
    TASKS[name].delay(sent)
