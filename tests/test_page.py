"""The first page in a real browser: what a person sees."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import TEMPLATE, Browse, Project, Start, wait_until
from contacts_file import make_contacts_file
from playwright.sync_api import Page, expect, sync_playwright
from site_at_work import come_up, database_of, held_up, port_of, press_ctrl_c

PICTURE = TEMPLATE / "docs" / "import.png"


@pytest.fixture
def page() -> Iterator[Page]:
    """A page of the system's Chromium, in which every error is a failure."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        give_up = pytest.fail if "CI" in os.environ else pytest.skip
        give_up("no browser: apt-get install chromium")
    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            # Root has no sandbox, and nothing here asks another host for anything.
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = browser.new_page(viewport={"width": 900, "height": 560})
        page.on("console", lambda message: errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
        browser.close()
    assert not errors


def test_a_person_imports_contacts_and_watches(
    site: Project, start: Start, browse: Browse, page: Page, tmp_path: Path
) -> None:
    running, _ = come_up(site, start, browse)
    database = database_of(site)
    page.goto(f"http://127.0.0.1:{port_of(site)}/")
    page.get_by_role("button", name="Log in as developer").click()
    expect(page.get_by_text("No imports yet.")).to_be_visible()

    first = tmp_path / "customers.csv"
    first.write_bytes(make_contacts_file(10_000).content)
    page.get_by_label("CSV file").set_input_files(first)
    page.get_by_role("button", name="Import").click()
    expect(page.get_by_text("Done")).to_be_visible(timeout=30_000)
    expect(page.get_by_text("9,900 rows imported, 100 rejected")).to_be_visible()

    second = tmp_path / "newsletter.csv"
    second.write_bytes(make_contacts_file(100_000, "reader").content)
    with held_up(database, 60_000, "reader"):
        page.get_by_label("CSV file").set_input_files(second)
        page.get_by_role("button", name="Import").click()
        expect(page.get_by_text("Importing")).to_be_visible()
        wait_until(database.is_blocked)
        bar = page.get_by_role("progressbar")
        expect(bar).to_have_attribute("value", "59", timeout=10_000)
        if "PICTURES" in os.environ:
            PICTURE.parent.mkdir(exist_ok=True)
            page.screenshot(path=PICTURE)
    expect(bar).to_have_count(0, timeout=30_000)
    expect(page.get_by_text("99,000 rows imported, 1,000 rejected")).to_be_visible()
    press_ctrl_c(running, site)


def test_a_bad_file_is_refused_where_it_was_chosen(
    site: Project, start: Start, browse: Browse, page: Page, tmp_path: Path
) -> None:
    running, _ = come_up(site, start, browse)
    page.goto(f"http://127.0.0.1:{port_of(site)}/")
    page.get_by_role("button", name="Log in as developer").click()
    bad = tmp_path / "bad.csv"
    bad.write_bytes(b"hello")
    page.get_by_label("CSV file").set_input_files(bad)
    page.get_by_role("button", name="Import").click()
    expect(page.get_by_text("The first line must name the columns")).to_be_visible()
    expect(page.get_by_text("No imports yet.")).to_be_visible()
    press_ctrl_c(running, site)


def test_staff_see_the_queues_and_why_a_job_failed(
    site: Project, start: Start, browse: Browse, page: Page
) -> None:
    running, _ = come_up(site, start, browse)
    database = database_of(site)
    code = f"from {site.app} import tasks; tasks.send_summary.defer(import_id=0)"
    site.run("manage.py", "shell", "--command", code)
    wait_until(lambda: database.query("SELECT 1 FROM jobs_jobfailure"))
    database.query(DAY)

    url = f"http://127.0.0.1:{port_of(site)}"
    page.goto(url)
    page.get_by_role("button", name="Log in as developer").click()
    page.set_viewport_size({"width": 1400, "height": 800})
    page.get_by_role("link", name="Jobs").click()
    expect(page.get_by_text("All queues are within their limits.")).to_be_visible()
    chart = page.locator("svg").first
    expect(chart).to_be_visible()
    assert chart.locator("rect").count() == 144
    assert chart.locator("rect.late").count() == 12
    take(page, "queues")

    # Django's admin has no icon, and a browser asks.
    page.route("**/favicon.ico", lambda route: route.fulfill(status=204))
    page.goto(f"{url}/admin/jobs/queuedjob/")
    expect(page.get_by_role("cell", name="failed")).to_be_visible()
    take(page, "jobs")
    page.goto(f"{url}/jobs/")
    page.get_by_role("link", name="send_summary").click()
    expect(page.get_by_text("Traceback (most recent call last)")).to_be_visible()
    page.get_by_text("Traceback (most recent call last)").scroll_into_view_if_needed()
    take(page, "failure")
    assert running.interrupt() == 130


# A day of a queue with a busy afternoon.
DAY = """
INSERT INTO jobs_queuesample (minute, queue, waiting, running, wait)
SELECT now() - n * interval '10 minutes', 'default',
    40 + 30 * sin(n / 9.0) + CASE WHEN n BETWEEN 30 AND 60 THEN 12 * (15 - abs(n - 45)) ELSE 0 END,
    4, CASE WHEN n BETWEEN 40 AND 51 THEN 400 ELSE 5 END
FROM generate_series(0, 143) n RETURNING id
"""


def take(page: Page, name: str) -> None:
    """Take a picture for the documentation, if there are to be any."""
    if "PICTURES" in os.environ:
        page.screenshot(path=PICTURE.with_name(f"{name}.png"))
