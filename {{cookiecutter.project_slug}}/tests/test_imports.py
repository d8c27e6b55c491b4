"""Who may import whom; the rules stand in pyproject.toml."""

import re
import subprocess
import sys
from pathlib import Path

from django.conf import settings


def test_the_import_rules_hold(tmp_path: Path) -> None:
    packages = {path.parent.name for path in settings.BASE_DIR.glob("*/__init__.py")}
    roots = f"root_packages = {sorted(packages - {'tests'})}"
    text = (settings.BASE_DIR / "pyproject.toml").read_text()
    config = tmp_path / "importlinter.toml"
    config.write_text(re.sub("^root_packages = .*", roots, text, flags=re.MULTILINE))
    # A process of its own: it disables all loggers.
    linter = Path(sys.executable).with_name("lint-imports")
    subprocess.run(
        [linter, "--config", config, "--no-cache"], cwd=settings.BASE_DIR, check=True
    )
