"""What people may do to jobs and queues, each with a permission of its own."""

import logging
from collections.abc import Collection
from functools import reduce
from operator import or_
from typing import Any, NamedTuple

from django import forms
from django.contrib.admin.models import CHANGE, LogEntry
from django.db import transaction
from django.db.models.functions import Greatest, Now

from .bridge import MAINTENANCE_QUEUE
from .models import PausedQueue, QueuedJob
from .search import STATES

logger = logging.getLogger(__name__)


class Action(NamedTuple):
    """Something that people may do to jobs."""

    label: str
    states: list[str]
    """The states of the jobs to which it may be done."""
    changes: dict[str, Any]
    """The new values of columns. Triggers of Procrastinate do the rest."""


RETRY = {
    "status": "todo",
    "abort_requested": False,
    # A time that is yet to come is kept.
    "scheduled_at": Greatest("scheduled_at", Now()),
}
ACTIONS = {
    "retry_job": Action("Run again", ["failed", "cancelled", "stopped"], RETRY),
    "run_job_now": Action("Run now", ["scheduled"], {"scheduled_at": Now()}),
    "cancel_job": Action("Cancel", ["waiting", "scheduled"], {"status": "cancelled"}),
    "abort_job": Action("Ask to stop", ["running"], {"abort_requested": True}),
}
"""Actions by the permission that each needs."""


def act(name: str, ids: Collection[int], user: Any = None) -> tuple[int, int]:
    """Do something to the jobs whose state allows it, and record who did it.

    Args:
        name: A key of ACTIONS.
        user: None if it is not known.

    Returns:
        How many jobs were changed, and how many were not because another job with the
        same queueing lock is waiting.
    """
    action = ACTIONS[name]
    possible = reduce(or_, (STATES[state] for state in action.states))
    jobs = QueuedJob.objects.filter(possible, pk__in=list(ids)).defer("args")
    changed = collided = 0
    batches = [jobs]
    if action.changes.get("status") == "todo":
        # Those with a queueing lock may collide, so each is changed by itself.
        locked = jobs.exclude(queueing_lock=None).values_list("pk", flat=True)
        batches = [
            jobs.filter(queueing_lock=None),
            *(jobs.filter(pk=pk) for pk in locked),
        ]
    waiting = QueuedJob.objects.filter(status="todo").exclude(queueing_lock=None)
    for batch in batches:
        with transaction.atomic():
            found = list(batch.select_for_update())
            locks = {job.queueing_lock for job in found}
            if len(batches) > 1 and waiting.filter(queueing_lock__in=locks).exists():
                collided += 1
                continue
            QueuedJob.objects.filter(pk__in=[job.pk for job in found]).update(
                **action.changes
            )
            if user and found:
                LogEntry.objects.log_actions(user.pk, found, CHANGE, action.label)
        changed += len(found)
    logger.info("%s: %s of the jobs %s", action.label, changed, sorted(ids)[:100])
    return changed, collided


class PauseForm(forms.Form):
    """Which queue to pause, and why."""

    queue = forms.CharField(max_length=128)
    why = forms.CharField(
        max_length=200, error_messages={"required": "Say why the queue is paused."}
    )

    def clean_queue(self) -> str:
        """Refuse the queue without which dead workers' jobs would not be rescued."""
        queue: str = self.cleaned_data["queue"]
        if queue == MAINTENANCE_QUEUE:
            raise forms.ValidationError(f"The queue {queue} cannot be paused.")
        return queue


def pause(queue: str, why: str, who: str) -> PausedQueue | None:
    """Keep workers from taking jobs from a queue. Jobs that run are not affected.

    Args:
        who: Who pauses it, for people.

    Returns:
        The pause that was there already, and stays as it is, or None.

    Raises:
        ValueError: There is no reason, or the queue cannot be paused.
    """
    form = PauseForm({"queue": queue, "why": why})
    if not form.is_valid():
        raise ValueError(next(iter(form.errors.values()))[0])
    columns = {"why": form.cleaned_data["why"], "who": who[:200]}
    paused, new = PausedQueue.objects.get_or_create(columns, pk=queue)
    if not new:
        return paused
    logger.info("%s", paused)
    return None


def resume(queue: str, who: str) -> bool:
    """Let workers take jobs from a paused queue again.

    Returns:
        Whether it was paused.
    """
    _, deleted = PausedQueue.objects.filter(pk=queue).delete()
    if deleted:
        logger.info("Queue %s was resumed by %s", queue, who)
    return bool(deleted)
