"""What the tests of faults share; it prints what became of the jobs under each fault."""

from collections.abc import Callable, Iterator

import pytest
from conftest import Project
from psycopg.conninfo import conninfo_to_dict
from site_at_work import database_of

from .relay import Relay, relaying
from .trial import PREPARE, tasks_of_faults

Record = Callable[[str, object], None]

COLUMNS = ("entered", "succeeded", "lost", "stuck", "failed", "twice", "atomic_twice", "longest")


@pytest.fixture
def prepared(site: Project) -> Iterator[str]:
    """The address of the site's database for the workers of a trial."""
    database_of(site).execute(PREPARE)
    with tasks_of_faults(site):
        yield site.database_url.replace("//dev@", "//site@")


@pytest.fixture
def relay(site: Project) -> Iterator[Relay]:
    """A relay to the development database."""
    host = conninfo_to_dict(site.database_url)["host"]
    with relaying(f"{host}/.s.PGSQL.5432") as relay:
        yield relay


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
        if "outcome" in dict(report.user_properties)
    ]
    if reports:
        terminalreporter.section("faults")
        terminalreporter.write_line(f"{'':58}" + "".join(f"{name:>13}" for name in COLUMNS))
    for report in reports:
        properties = dict(report.user_properties)
        values = properties["outcome"]
        name = report.nodeid.partition("::test_")[2].replace("nothing_is_lost", "")
        cells = (f"{values[column]:13.4g}" for column in COLUMNS)
        terminalreporter.write_line(f"{name.strip('[]')[:57]:58}" + "".join(cells))
        if rates := properties.get("rates"):
            terminalreporter.write_line(f"    {rates}")
