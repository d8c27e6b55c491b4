"""A long import takes no more memory than a short one, and survives a killed worker."""

import re
import time
from pathlib import Path

import psutil
import pytest
from conftest import Browse, Project, Start, wait_until
from contacts_file import make_contacts_file
from site_at_work import database_of, start_site, workers


def peak(*processes: psutil.Process) -> int:
    """Return the peak memory of the largest of the processes, in MB."""
    lines = [Path(f"/proc/{one.pid}/status").read_text().splitlines() for one in processes]
    found = [line.split()[1] for status in lines for line in status if line.startswith("VmHWM")]
    return max(map(int, found)) // 1024


# A million people; the name that the tests search for comes last.
FILL = """
INSERT INTO {app}_contact (email, name, company, phone)
SELECT to_char(n, 'FM"person"0000000"@example.com"'),
    CASE WHEN n > 900000 THEN 'Zoe' ELSE 'Ann' END || n, 'Acme', ''
FROM generate_series(1, 1000000) n;
ANALYZE {app}_contact
"""

FIND = """
from django.db import connection
from django.test.utils import CaptureQueriesContext
from {app} import services
with CaptureQueriesContext(connection) as queries:
    assert len(services.find_contacts(search={search!r}, after={after!r})) == {found}
with connection.cursor() as cursor:
    for query in queries.captured_queries:
        cursor.execute("EXPLAIN ANALYZE " + query["sql"])
        for line, in cursor.fetchall():
            print(line)
"""


@pytest.mark.exhaustive
def test_no_page_of_a_million_contacts_reads_many_rows(site: Project) -> None:
    database_of(site).execute(FILL.format(app=site.app))
    for search, after, found in [
        ("", "", 51),
        ("", "person0999900@example.com", 51),
        ("zoe", "", 51),
        ("zoe", "person0900500@example.com", 51),
        ("acme", "", 51),
        ("PERSON", "", 51),
        ("nobody", "", 0),
    ]:
        find = FIND.format(app=site.app, search=search, after=after, found=found)
        plan = site.run("manage.py", "shell", "--verbosity=0", "--command", find).stdout
        read = re.findall(r"actual .*rows=(\d+)|Removed.*: (\d+)", plan)
        assert read, plan
        assert max(map(int, (rows or removed for rows, removed in read))) <= 1_000, plan
        assert "Seq Scan" not in plan, plan


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_a_million_rows_are_cancelled_in_seconds(
    site: Project, start: Start, browse: Browse, capsys: pytest.CaptureFixture[str]
) -> None:
    running, browser = start_site(site, start, browse)
    database = database_of(site)
    browser.upload("people.csv", make_contacts_file(1_000_000).content)
    wait_until(lambda: database.last_import()["imported"] > 100_000, 300)
    asked = time.monotonic()
    browser.submit("/", f"/imports/{database.last_import()['id']}/cancel/")
    wait_until(lambda: database.last_import()["status"] == "aborted", 10)
    with capsys.disabled():
        print(f"\nStopped {time.monotonic() - asked:.1f} s after it was asked to")
    stopped = database.last_import()
    # Some rows have the same address.
    assert 0 < len(database.contacts()) <= stopped["imported"] < 990_000
    running.interrupt()


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are read from /proc")
def test_a_million_rows_take_the_memory_of_ten_thousand(
    site: Project, start: Start, browse: Browse, capsys: pytest.CaptureFixture[str]
) -> None:
    def peaks(rows: int, kill_at: int = 0) -> tuple[int, int]:
        """Import, and return the peaks of the web and of the worker."""
        running, browser = start_site(site, start, browse)
        database = database_of(site)
        file = make_contacts_file(rows)
        browser.upload("people.csv", file.content)
        web = peak(*(one for one in site.processes() if "runserver" in one.cmdline()))
        killed = 0
        if kill_at:
            wait_until(lambda: database.last_import()["imported"] > kill_at, 300)
            killed = peak(*workers(site))
            for process in workers(site):
                process.kill()
        wait_until(lambda: database.last_import()["finished_at"], 400)
        worker = max(killed, peak(*workers(site)))
        done = database.last_import()
        assert (done["imported"], done["rejected"]) == (file.good, len(file.bad))
        assert database.contacts() == file.contacts
        running.interrupt()
        return web, worker

    few = peaks(10_000)
    many = peaks(1_000_000, kill_at=400_000)
    with capsys.disabled():
        print(f"\nMB of the web and of the worker: 10,000 rows {few}, 1,000,000 rows {many}")
    assert many[0] <= 1.2 * few[0]
    assert many[1] <= 1.2 * few[1]
