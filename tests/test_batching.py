"""The batching job manager of bench/, under the faults that it must survive."""

import os
import shutil

import pytest
from conftest import TEMPLATE, Project

BATCHING = TEMPLATE / "bench" / "batching"
PLACES = {
    "batching.py": "batching.py",
    "faults.py": "tasks/faults.py",
    "test_faults.py": "jobs/tests/test_faults.py",
}


@pytest.mark.exhaustive
@pytest.mark.timeout(0)
def test_batches_survive_faults(site: Project) -> None:
    """Once, or BATCHING_RUNS times."""
    for source, target in PLACES.items():
        shutil.copy(BATCHING / source, site.path / target)
    try:
        for _ in range(int(os.environ.get("BATCHING_RUNS", "1"))):
            site.run("pytest", "-q", "jobs/tests/test_faults.py")
    finally:
        for target in PLACES.values():
            (site.path / target).unlink()
