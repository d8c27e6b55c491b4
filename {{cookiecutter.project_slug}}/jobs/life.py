"""What happened to a job, from the events, the failures and the admin's log."""

import re
from datetime import datetime
from itertools import groupby
from typing import Any

from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from procrastinate.contrib.django.models import ProcrastinateEvent

from .logs import LIBRARY
from .models import JobFailure, QueuedJob
from .search import spell

EVENTS = {
    "deferred": "Deferred",
    "started": "Started",
    "deferred_for_retry": "Put back into the queue",
    "failed": "Failed for good",
    "succeeded": "Succeeded",
    "cancelled": "Cancelled",
    "abort_requested": "Asked to stop",
    "aborted": "Stopped",
    "retried": "Put back by a person",
}


WAITS = ("deferred", "deferred_for_retry", "retried")


def life_of(job: QueuedJob, *, failures: bool) -> list[dict[str, Any]]:
    """Return what happened to a job, in order.

    Args:
        failures: Whether to include what its attempts raised.
    """
    life: list[dict[str, Any]] = []
    due = None
    for event in ProcrastinateEvent.objects.filter(job_id=job.pk).order_by("pk")[:1000]:
        # It comes before the event that it is about, and its time is when the job is due.
        if event.type == "scheduled":
            due = event.at
        else:
            entry = {"at": event.at, "type": event.type, "text": EVENTS[event.type]}
            life.append({**entry, "due": due if event.type in WAITS else None})
            due = None
    if failures:
        for failure in JobFailure.objects.filter(job_id=job.pk).order_by("pk")[:100]:
            frames = fold(failure.traceback)
            life.append({"at": failure.at, "failure": failure, "frames": frames})
    kind = ContentType.objects.get_for_model(QueuedJob, for_concrete_model=False)
    log = LogEntry.objects.filter(content_type=kind, object_id=str(job.pk))
    for action in log.select_related("user")[:100]:
        text = f"{action.change_message}: {action.user.get_username()}"
        life.append({"at": action.action_time, "text": text})
    life.sort(key=lambda entry: entry["at"])
    last: datetime | None = None
    for entry in life:
        entry["after"] = spell(entry["at"] - last) if last else ""
        last = entry["at"]
    return life


def fold(traceback: str) -> list[tuple[bool, int, str]]:
    """Split a traceback into parts: of libraries or not, how many frames, the text.

    This package counts as a library.
    """
    parts = re.split(r'^(?=  File "|\S)', traceback, flags=re.MULTILINE)
    library = re.compile(f'  File "{LIBRARY}')
    folded = []
    for inside, group in groupby(
        filter(None, parts), lambda one: bool(library.match(one))
    ):
        frames = list(group)
        folded.append((inside, len(frames), "".join(frames)))
    return folded
