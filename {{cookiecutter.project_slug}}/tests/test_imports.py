"""Who may import whom; the rules stand in pyproject.toml."""

import re
from pathlib import Path

from django.conf import settings
from importlinter.cli import lint_imports


def test_the_import_rules_hold(tmp_path: Path) -> None:
    packages = {path.parent.name for path in settings.BASE_DIR.glob("*/__init__.py")}
    roots = f"root_packages = {sorted(packages - {'tests'})}"
    text = (settings.BASE_DIR / "pyproject.toml").read_text()
    config = tmp_path / "importlinter.toml"
    config.write_text(re.sub("^root_packages = .*", roots, text, flags=re.MULTILINE))
    assert lint_imports(config_filename=str(config), no_cache=True) == 0
