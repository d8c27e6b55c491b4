"""What a worker guarantees, whatever happens to it: with real processes, really killed."""

import os
import shutil

import pytest
from conftest import TEMPLATE, Project

HERE = TEMPLATE / "tests/faults"
PLACES = {"worker_jobs.py": "tasks/faults.py", "worker_faults.py": "jobs/tests/test_faults.py"}
# Each takes from 10 seconds to a minute.
LONG = (
    "draining or over_its_time_ends or blocked or counts_against or lost_its_sessions"
    " or by_its_lock or stops_the_event_loop"
)


def run_faults(site: Project, select: str, lanes: bool, **env: str) -> None:
    """Run worker_faults.py in the project, with lanes or without."""
    for source, target in PLACES.items():
        shutil.copy(HERE / source, site.path / target)
    settings = site.path / site.slug / "settings.py"
    before = settings.read_text()
    if not lanes:
        settings.write_text(before.replace("JOBS_LANES = True", "JOBS_LANES = False"))
    try:
        env["LANES"] = "on" if lanes else "off"
        site.run("pytest", "-n3", "-q", "jobs/tests/test_faults.py", "-k", select, **env)
    finally:
        settings.write_text(before)
        for target in PLACES.values():
            (site.path / target).unlink()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("lanes", [True, False], ids=["lanes", "loop"])
def test_short_faults(site: Project, lanes: bool) -> None:
    run_faults(site, f"not ({LONG})", lanes)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("lanes", [True, False], ids=["lanes", "loop"])
def test_long_faults(site: Project, lanes: bool) -> None:
    run_faults(site, LONG, lanes)


@pytest.mark.exhaustive
@pytest.mark.timeout(0)
def test_exactly_once_under_sixty_kills(site: Project) -> None:
    select = "exactly_once or happen_twice or over_a_minute"
    run_faults(site, select, lanes=True, KILLS="63")


@pytest.mark.exhaustive
@pytest.mark.timeout(0)
@pytest.mark.parametrize("lanes", [True, False], ids=["lanes", "loop"])
@pytest.mark.parametrize(("select", "runs"), [(f"not ({LONG})", "100"), (LONG, "10")])
def test_no_fault_test_fails_now_and_then(
    site: Project, select: str, runs: str, lanes: bool
) -> None:
    run_faults(site, select, lanes, RUNS=os.environ.get("RUNS", runs))
