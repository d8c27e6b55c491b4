"""What people may do to jobs, each with a permission of its own."""

import logging
from collections.abc import Collection
from typing import Any, NamedTuple

from django.contrib.admin.models import CHANGE, LogEntry
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Greatest, Now

from .models import QueuedJob
from .search import STATES

logger = logging.getLogger(__name__)


class Action(NamedTuple):
    """Something that people may do to jobs."""

    label: str
    possible: Q
    """For which jobs."""
    states: tuple[str, ...]
    """The same, as states."""
    changes: dict[str, Any]
    """The new values of columns. Triggers of Procrastinate do the rest."""


def _action(label: str, *states: str, **changes: Any) -> Action:
    possible = Q()
    for state in states:
        possible |= STATES[state]
    return Action(label, possible, states, changes)


ACTIONS = {
    "retry_job": _action(
        "Run again",
        "failed",
        "cancelled",
        "stopped",
        status="todo",
        abort_requested=False,
        # A time that is yet to come is kept.
        scheduled_at=Greatest("scheduled_at", Now()),
    ),
    "run_job_now": _action("Run now", "scheduled", scheduled_at=Now()),
    "cancel_job": _action("Cancel", "waiting", "scheduled", status="cancelled"),
    "abort_job": _action("Ask to stop", "running", abort_requested=True),
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
    jobs = QueuedJob.objects.filter(action.possible, pk__in=list(ids)).defer("args")
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
