"""The first page in a real browser: what a person sees."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import TEMPLATE, Browse, Project, Start, wait_until
from contacts_file import make_contacts_file
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright
from site_at_work import come_up, database_of, held_up, port_of, workers

PICTURES = TEMPLATE / "docs"
# The one that the rendered project's README shows.
ITS_PICTURE = TEMPLATE / "{{cookiecutter.project_slug}}" / "docs" / "import.png"

BOB = """
from users.models import User
User.objects.create_superuser("bob", password="correct horse")
"""

# A day of a queue with a busy afternoon.
DAY = """
INSERT INTO jobs_queuesample (minute, queue, waiting, running, wait)
SELECT now() - n * interval '10 minutes', 'default',
    40 + 30 * sin(n / 9.0) + CASE WHEN n BETWEEN 30 AND 60 THEN 12 * (15 - abs(n - 45)) ELSE 0 END,
    4, CASE WHEN n BETWEEN 40 AND 51 THEN 400 ELSE 5 END
FROM generate_series(0, 143) n RETURNING id
"""

# A failure as it looks in production, not on the machine that takes its picture.
SOMEWHERE_ELSE = r"""
UPDATE jobs_jobfailure SET host = 'worker-1', traceback = regexp_replace(
    replace(traceback, %s, '/srv/my_project'),
    '"/(?!srv/)[^"]*/(python3)', '"/usr/lib/\1', 'g')
RETURNING id
"""


@pytest.fixture
def chromium() -> Iterator[Browser]:
    """The system's Chromium."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if not program:
        give_up = pytest.fail if "CI" in os.environ else pytest.skip
        give_up("no browser: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            # Root has no sandbox, and nothing here asks another host for anything.
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


NewPage = Callable[..., Page]


@pytest.fixture
def new_page(chromium: Browser, site: Project) -> Iterator[NewPage]:
    """Open pages of the site, each in a session of its own, in which every error is a failure."""
    errors: list[str] = []
    hosts: set[str] = set()

    def make(*statuses: int, **options: Any) -> Page:
        """Open a page for a test in which responses with these statuses are no errors."""
        expected = [f"status of {status}" for status in statuses]

        def listen(said: ConsoleMessage) -> None:
            if not any(text in said.text for text in expected):
                errors.append(said.text)

        page = chromium.new_page(
            viewport={"width": 900, "height": 560},
            base_url=f"http://127.0.0.1:{port_of(site)}",
            **options,
        )
        page.on("console", listen)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
        return page

    yield make
    assert not errors
    assert hosts <= {f"127.0.0.1:{port_of(site)}"}


@pytest.fixture
def page(new_page: NewPage, site: Project, start: Start, browse: Browse) -> Iterator[Page]:
    """The first page as the developer sees it, of the site at work."""
    running, _ = come_up(site, start, browse)
    page = new_page()
    page.goto("/")
    page.get_by_role("button", name="Log in as developer").click()
    yield page
    assert running.interrupt() == 130
    assert not site.processes()


def take_picture(page: Page, name: str) -> None:
    """Take a picture for the READMEs, when PICTURES is set."""
    if "PICTURES" in os.environ:
        PICTURES.mkdir(exist_ok=True)
        page.screenshot(path=PICTURES / f"{name}.png")
        if name == ITS_PICTURE.stem:
            ITS_PICTURE.parent.mkdir(exist_ok=True)
            shutil.copy(PICTURES / f"{name}.png", ITS_PICTURE)


def upload(page: Page, file: Path, content: bytes) -> None:
    file.write_bytes(content)
    page.get_by_label("CSV file").set_input_files(file)
    page.get_by_role("button", name="Import", exact=True).click()


def test_a_person_imports_contacts_and_watches(page: Page, site: Project, tmp_path: Path) -> None:
    database = database_of(site)
    expect(page.get_by_text("No imports yet.")).to_be_visible()
    upload(page, tmp_path / "customers.csv", make_contacts_file(10_000).content)
    expect(page.get_by_text("Done", exact=True)).to_be_visible(timeout=30_000)
    expect(page.get_by_text("9,900 rows imported, 100 rejected")).to_be_visible()
    expect(page.get_by_text("succeeded", exact=True)).to_be_visible()

    content = make_contacts_file(100_000, "reader").content
    with held_up(database, 60_000, "reader"):
        upload(page, tmp_path / "newsletter.csv", content)
        expect(page.get_by_text("Importing", exact=True)).to_be_visible()
        wait_until(database.blocked)
        bar = page.get_by_role("progressbar")
        expect(bar).to_have_attribute("value", "59", timeout=10_000)
        expect(page.get_by_text("a second · done")).to_be_visible()
        page.set_viewport_size({"width": 1200, "height": 860})
        take_picture(page, "import")
        page.emulate_media(color_scheme="dark")
        take_picture(page, "import-dark")
        page.set_viewport_size({"width": 390, "height": 844})
        take_picture(page, "import-phone")
        page.emulate_media(color_scheme="light")
    expect(bar).to_have_count(0, timeout=30_000)
    expect(page.get_by_text("99,000 rows imported, 1,000 rejected")).to_be_visible()

    with page.expect_download() as download:
        page.get_by_role("link", name="Download rejected rows of newsletter.csv").click()
    lines = download.value.path().read_text().splitlines()
    assert lines[0] == "line,reason,row"
    assert len(lines) > 1_000


def test_the_sample_needs_no_file_and_fills_the_contacts(page: Page) -> None:
    page.get_by_role("button", name="Try it with 10,000 sample contacts").click()
    expect(page.get_by_text("9,980 rows imported, 20 rejected")).to_be_visible(timeout=30_000)
    page.get_by_role("link", name="Contacts", exact=True).click()
    expect(page.get_by_role("row")).to_have_count(51)
    page.get_by_label("Search").press_sequentially("grace k")
    expect(page.get_by_role("cell", name="Grace Kim").first).to_be_visible()
    expect(page.get_by_role("cell", name="Ada Adams")).to_have_count(0)
    expect(page).to_have_url(re.compile("search=grace"))
    page.get_by_role("link", name="Next page").click()
    expect(page.get_by_role("cell", name="Grace Kim").first).to_be_visible()
    expect(page.get_by_role("link", name="First page")).to_be_visible()
    take_picture(page, "contacts")


def test_a_bad_file_is_refused_where_it_was_chosen(page: Page, tmp_path: Path) -> None:
    upload(page, tmp_path / "bad.csv", b"hello")
    expect(page.get_by_text("The first line must name the columns")).to_be_visible()
    expect(page.get_by_text("No imports yet.")).to_be_visible()


def test_a_cancelled_import_stops_and_goes_on_when_asked(
    page: Page, site: Project, tmp_path: Path
) -> None:
    database = database_of(site)
    with held_up(database, 60_000):
        upload(page, tmp_path / "long.csv", make_contacts_file(100_000).content)
        wait_until(database.blocked)
        page.get_by_role("button", name="Cancel long.csv").click()
        expect(page.get_by_text("Stopping", exact=True)).to_be_visible()
    expect(page.get_by_text("Cancelled", exact=True)).to_be_visible(timeout=5_000)
    stopped = database.last_import()
    assert stopped["status"] == "aborted"
    assert 0 < stopped["imported"] < 99_000
    page.get_by_role("button", name="Retry long.csv").click()
    expect(page.get_by_text("99,000 rows imported, 1,000 rejected")).to_be_visible(timeout=30_000)
    assert database.contacts() == make_contacts_file(100_000).contacts


def test_a_failed_import_says_why_and_goes_on_when_asked(
    page: Page, site: Project, tmp_path: Path
) -> None:
    database = database_of(site)
    table = f"{site.app}_contact"
    rule = f"ALTER TABLE {table} ADD CONSTRAINT nobody CHECK (email <> 'person6000@example.com')"
    database.execute(rule)
    upload(page, tmp_path / "people.csv", make_contacts_file(10_000).content)
    expect(page.get_by_text("Failed", exact=True)).to_be_visible(timeout=30_000)
    expect(page.get_by_text("IntegrityError after line")).to_be_visible()
    database.execute(f"ALTER TABLE {table} DROP CONSTRAINT nobody")
    page.get_by_role("button", name="Retry people.csv").click()
    expect(page.get_by_text("9,900 rows imported, 100 rejected")).to_be_visible(timeout=30_000)
    assert database.contacts() == make_contacts_file(10_000).contacts


def test_a_scheduled_import_waits_for_its_time_and_can_be_cancelled(
    page: Page, tmp_path: Path
) -> None:
    due = datetime.now(UTC) + timedelta(days=1)
    page.get_by_text("Schedule for later").click()
    page.get_by_label("Start at").fill(due.strftime("%Y-%m-%dT%H:%M"))
    upload(page, tmp_path / "later.csv", make_contacts_file(100).content)
    expect(page.get_by_text("Scheduled", exact=True)).to_be_visible()
    expect(page.get_by_text(f"starts {due.day} {due:%B %Y, %H:%M} UTC")).to_be_visible()
    upload(page, tmp_path / "later.csv", make_contacts_file(100).content)
    expect(page.get_by_text("This file is on its way already")).to_be_visible()
    page.get_by_role("button", name="Cancel later.csv").click()
    expect(page.get_by_text("Cancelled", exact=True)).to_be_visible()


def test_two_people_see_their_own_imports_alone(
    page: Page, new_page: NewPage, site: Project, tmp_path: Path
) -> None:
    site.run("manage.py", "shell", f"--command={BOB}")
    upload(page, tmp_path / "ours.csv", make_contacts_file(1_000).content)
    expect(page.get_by_text("990 rows imported, 10 rejected")).to_be_visible(timeout=30_000)
    other = new_page()
    other.goto("/")
    other.get_by_label("Username").fill("bob")
    other.get_by_label("Password").fill("correct horse")
    other.get_by_role("button", name="Log in", exact=True).click()
    expect(other.get_by_text("No imports yet.")).to_be_visible()
    upload(other, tmp_path / "theirs.csv", make_contacts_file(1_000).content)
    expect(other.get_by_text("990 rows imported, 10 rejected")).to_be_visible(timeout=30_000)
    page.reload()
    expect(page.get_by_text("theirs.csv")).to_have_count(0)


def test_the_page_says_when_no_worker_is_running(
    new_page: NewPage, site: Project, start: Start, tmp_path: Path
) -> None:
    start(site, "honcho", "start", "web").wait_for("Quit the server", 60)
    # Development's own worker would start again.
    worker = start(site, "procrastinate", "--app=tasks.app", "worker", PYTHONPATH=".")
    worker.wait_for("Starting worker on all queues", 60)
    page = new_page()
    page.goto("/")
    page.get_by_role("button", name="Log in as developer").click()
    database = database_of(site)
    with held_up(database, 60_000):
        upload(page, tmp_path / "long.csv", make_contacts_file(100_000).content)
        wait_until(database.blocked)
        expect(page.get_by_text("No worker is running")).to_have_count(0)
        for process in workers(site):
            process.kill()
        expect(page.get_by_text("No worker is running")).to_be_visible(timeout=30_000)
        take_picture(page, "no-worker")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_accessible(page: Page, scheme: str, tmp_path: Path) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    problems = {}

    def examine(name: str) -> None:
        report = Axe().run(page)
        if report.violations_count:
            problems[name] = report.generate_report()

    examine("no imports")
    upload(page, tmp_path / "bad.csv", b"hello")
    examine("a refused file")
    page.get_by_role("button", name="Try it").click()
    expect(page.get_by_text("9,980 rows imported, 20 rejected")).to_be_visible(timeout=30_000)
    examine("imports")
    for path in ("/contacts/", "/contacts/?search=nobody", "/accounts/password_change/"):
        page.goto(path)
        examine(path)
    page.context.clear_cookies()
    for path in (
        "/accounts/login/",
        "/accounts/password_reset/",
        "/accounts/password_reset/done/",
        "/accounts/reset/done/",
        "/accounts/reset/MQ/no-token/",
    ):
        page.goto(path)
        examine(path)
    assert not problems, "\n".join(problems.values())


def test_staff_see_the_queues_and_why_a_job_failed(page: Page, site: Project) -> None:
    database = database_of(site)
    code = f"from {site.app} import tasks; tasks.send_summary.defer(import_id=0)"
    site.run("manage.py", "shell", "--command", code)
    wait_until(lambda: database.query("SELECT 1 FROM jobs_jobfailure"))
    database.query(DAY)

    page.set_viewport_size({"width": 1500, "height": 800})
    page.get_by_role("link", name="Jobs").click()
    expect(page.get_by_text("All queues are within their limits.")).to_be_visible()
    chart = page.locator("svg").first
    expect(chart).to_be_visible()
    assert chart.locator("rect").count() == 144
    assert chart.locator("rect.late").count() == 12
    take_picture(page, "queues")

    # Django's admin has no icon, and a browser asks.
    page.route("**/favicon.ico", lambda route: route.fulfill(status=204))
    page.goto("/admin/jobs/queuedjob/")
    expect(page.get_by_role("cell", name="failed")).to_be_visible()
    take_picture(page, "jobs")
    database.query(SOMEWHERE_ELSE, [str(site.path)])
    page.goto("/jobs/")
    page.get_by_role("link", name="send_summary").click()
    expect(page.get_by_text("Traceback (most recent call last)")).to_be_visible()
    expect(page.get_by_text('File "/srv/my_project/tasks/myapp.py"')).to_be_visible()
    page.set_viewport_size({"width": 1500, "height": 1350})
    take_picture(page, "failure")
