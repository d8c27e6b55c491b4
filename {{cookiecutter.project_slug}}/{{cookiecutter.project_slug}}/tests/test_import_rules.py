"""The import rules in pyproject.toml."""

import subprocess
import sys
from pathlib import Path

from django.conf import settings


def test_the_import_rules_hold() -> None:
    # In its own process: the linter disables all loggers.
    linter = Path(sys.executable).with_name("lint-imports")
    subprocess.run([linter, "--no-cache"], cwd=settings.BASE_DIR, check=True)
