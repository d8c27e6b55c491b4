"""Django-q2 with Django's ORM as its broker."""

from django_q.tasks import async_task


def enqueue(name: str, sent: float) -> None:
    """Add one job to the queue."""
    async_task(f"load.jobs.{name}", sent)


def unfinished(name: str) -> list[float]:
    """Return the arguments of the jobs that have not succeeded."""
    from django_q.models import OrmQ

    return [queued.task["args"][0] for queued in OrmQ.objects.all()]
