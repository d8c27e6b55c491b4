"""The web process dies while it commits: a row and its job are both there, or neither is."""

from typing import Literal

import httpx
import psutil
import pytest
from conftest import Browse, Project, Start, free_port, wait_until
from screen import BOB
from site_at_work import DEPLOYED, database_of

from .relay import Cut, Relay
from .trial import TIMES


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["request", "reply"])
def test_the_web_is_killed_as_it_commits(
    site: Project,
    start: Start,
    browse: Browse,
    relay: Relay,
    lost: Literal["request", "reply"],
) -> None:
    """Before the commit or after it, each time before the answer."""
    site.run("manage.py", "shell", f"--command={BOB}")
    address = f"127.0.0.1:{relay.server_address[1]}"
    variables = DEPLOYED | {
        "DATABASE_URL": f"postgresql://dev@{address}/dev",
        "PORT": str(free_port()),
    }
    site.run("manage.py", "collectstatic", "--no-input", **variables)
    running = start(site, "gunicorn", f"{site.slug}.wsgi", **variables)
    browser = browse(int(variables["PORT"]), proxy=True)
    wait_until(browser.is_up, what="the site")
    browser.log_in("bob", "correct horse")

    def kill_web() -> None:
        (gunicorn,) = psutil.Process(running.process.pid).children()
        for process in gunicorn.children():  # it starts others
            process.kill()

    kills = 3 * TIMES
    for number in range(kills):
        relay.cuts.append(Cut(b"COMMIT", lost, kill_web))
        with pytest.raises(httpx.TransportError):
            browser.upload(f"{number}.csv", f"email\nann{number}@example.com\n".encode())
        assert not relay.cuts
        wait_until(browser.is_up)

    database = database_of(site)
    rows = database.query("SELECT job_id FROM app_contactimport")
    jobs = database.query(
        "SELECT id FROM procrastinate_jobs WHERE task_name LIKE '%%.import_contacts'"
    )
    assert sorted(row["job_id"] for row in rows) == sorted(job["id"] for job in jobs)
    assert len(rows) == (kills if lost == "reply" else 0)
    print(f"{kills} kills, {len(rows)} imports, {len(jobs)} jobs")
