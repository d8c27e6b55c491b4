"""What the Procfile says about the workers."""

import re

from django.conf import settings


def served_queues() -> set[str]:
    """Return the queues that the Procfile's workers serve; empty if one serves all."""
    procfile = settings.BASE_DIR / "Procfile"
    lines = procfile.read_text().splitlines() if procfile.exists() else []
    option = r"(?: -q| --queues|PROCRASTINATE_WORKER_QUEUES)[ =]*([^ '\"]+)"
    found = [re.findall(option, line) for line in lines if "=tasks.app worker" in line]
    if not all(found):
        return set()
    return {name for [names] in found for name in names.split(",")}
