"""Django's own tasks, kept in the database by django-ox."""

from django_ox.bulk import enqueue_many as enqueue_calls

from . import django_tasks


def enqueue(name: str, sent: float) -> None:
    """Add one job to the queue."""
    django_tasks.enqueue(name, sent)


def enqueue_many(name: str, sents: list[float]) -> None:
    """Add jobs to the queue in one call."""
    enqueue_calls(getattr(django_tasks, name), [([sent], {}) for sent in sents])
