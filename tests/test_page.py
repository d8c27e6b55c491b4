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
