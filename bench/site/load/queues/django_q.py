"""Django-q2 with Django's ORM as its broker."""

from django_q.tasks import async_task


def enqueue(name: str, sent: float) -> None:
    """Add one job to the queue."""
    async_task(f"load.jobs.{name}", sent)
