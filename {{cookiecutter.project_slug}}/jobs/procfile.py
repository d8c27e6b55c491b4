"""Compares queues with the Procfile, which says what the workers serve."""

import re
from collections.abc import Iterable, Iterator

from django.conf import settings
from django.core.checks import Warning

from .bridge import MAINTENANCE_QUEUE


def check_served(queues: Iterable[str], note: str, place: str) -> Iterator[Warning]:
    """Yield a warning for each queue that no worker serves."""
    procfile = settings.BASE_DIR / "Procfile"
    lines = procfile.read_text().splitlines() if procfile.exists() else []
    option = r"(?: -q| --queues|PROCRASTINATE_WORKER_QUEUES)[ =]*([^ '\"]+)"
    found = [re.findall(option, line) for line in lines if "=tasks.app worker" in line]
    # A worker without the option serves all queues.
    if not found or not all(found):
        return
    served = {name for [names] in found for name in names.split(",")}
    for queue in sorted({*queues} - served - {MAINTENANCE_QUEUE}):
        text = f"No worker of the Procfile serves {queue!r}, {note}."
        hint = "Add the queue to a worker's --queues."
        yield Warning(text, hint=hint, obj=place, id="jobs.W002")
