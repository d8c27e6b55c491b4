"""An import a hundred times as long takes as much memory, and survives its worker."""

from pathlib import Path

import psutil
import pytest
from conftest import Browse, Project, Start, wait_until
from contacts_file import make_contacts_file
from site_at_work import come_up, database_of, workers


def peak(*processes: psutil.Process) -> int:
    """Return the most memory that one of the processes has had, in MB."""
    lines = [Path(f"/proc/{one.pid}/status").read_text().splitlines() for one in processes]
    found = [line.split()[1] for status in lines for line in status if line.startswith("VmHWM")]
    return max(map(int, found)) // 1024


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are read from /proc")
def test_a_million_rows_take_the_memory_of_ten_thousand(
    site: Project, start: Start, browse: Browse, capsys: pytest.CaptureFixture[str]
) -> None:
    def peaks(rows: int, kill_at: int = 0) -> tuple[int, int]:
        """Import, and return the peaks of the web and of the worker."""
        running, browser = come_up(site, start, browse)
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
