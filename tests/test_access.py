"""Who gets which answer at each address, for GET, HEAD and POST."""

import shutil
from pathlib import Path

import pytest
from conftest import TEMPLATE, Project

EXPECTED = TEMPLATE / "tests" / "access.txt"


@pytest.mark.slow
def test_everybody_gets_what_the_table_says(site: Project, tmp_path: Path) -> None:
    """A new page fails this until its line is in the table: think about each cell."""
    place = site.path / "jobs" / "tests" / "test_access.py"
    shutil.copy(TEMPLATE / "tests" / "access_table.py", place)
    found = tmp_path / "access.txt"
    try:
        site.run("pytest", "-q", str(place), ACCESS_TABLE=str(found))
    finally:
        place.unlink()
    expected = EXPECTED.read_text().splitlines()
    changed = sorted(set(found.read_text().splitlines()) ^ set(expected))
    assert not changed, "\n".join(
        [*changed, f"If each of these lines is as you want it: cp {found} {EXPECTED}"]
    )
