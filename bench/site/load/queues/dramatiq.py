"""Dramatiq with django-dramatiq, which looks for actors in an app's `tasks` modules."""

import dramatiq

from load import jobs

ACTORS = {name: dramatiq.actor(body, actor_name=name) for name, body in jobs.SYNC.items()}


def enqueue(name: str, sent: float) -> None:
    """Add one job to the queue."""
    ACTORS[name].send(sent)
