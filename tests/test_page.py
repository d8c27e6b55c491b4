"""The first page in a real browser: what a person sees."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import Browse, Project, Running, Start, free_port, wait_until
from contacts_file import make_contacts_file
from pictures import take_picture
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright
from site_at_work import VARIABLES, come_up, database_of, held_up, port_of, workers

BOB = """
from users.models import User
User.objects.create_superuser("bob", "bob@example.com", "correct horse")
User.objects.create_user("eve", "eve@example.com", "correct horse")
"""

# Somebody else's transaction seems to be in the way.
BUSY = """
CREATE FUNCTION busy() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN RAISE EXCEPTION 'busy' USING ERRCODE = 'serialization_failure'; END $$;
CREATE TRIGGER busy BEFORE INSERT ON {table} FOR EACH STATEMENT EXECUTE FUNCTION busy()
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
def running(site: Project, start: Start, browse: Browse) -> Iterator[Running]:
    """The site at work, with its worker."""
    running, _ = come_up(site, start, browse)
    yield running
    assert running.interrupt() == 130
    assert not site.processes()


@pytest.fixture
def page(running: Running, new_page: NewPage) -> Page:
    """The first page as the developer sees it, of the site at work."""
    page = new_page()
    page.goto("/")
    page.get_by_role("button", name="Log in as developer").click()
    return page


@pytest.fixture
def deployed(site: Project, start: Start, browse: Browse) -> None:
    """The site without DEBUG, on its port, with the users bob and eve."""
    site.run("manage.py", "shell", f"--command={BOB}")
    address = f"127.0.0.1:{port_of(site)}"
    variables = VARIABLES | {
        "DEBUG": "off",
        "DATABASE_URL": database_of(site).url,
        "CSRF_TRUSTED_ORIGINS": f"http://{address}",
        "PORT": str(port_of(site)),
    }
    site.run("manage.py", "collectstatic", "--no-input", **variables)
    start(site, "gunicorn", f"{site.slug}.wsgi", **variables)
    wait_until(browse(port_of(site), proxy=True).is_up, what="the site")


# What a proxy says that terminates TLS.
HTTPS = {"X-Forwarded-Proto": "https"}


def log_in(page: Page, username: str, password: str) -> None:
    page.goto("/accounts/login/")
    page.get_by_label("Username").fill(username)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in", exact=True).click()


def check_accessibility(page: Page) -> None:
    """Let axe look at the page, light and dark."""
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        report = Axe().run(page)
        assert not report.violations_count, report.generate_report()


def drop(page: Page, file: Path, content: bytes) -> None:
    """Drag a file onto the page and let it go there, as the system's file manager does."""
    file.write_bytes(content)
    box = page.get_by_label("CSV file").bounding_box()
    assert box
    place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
    session = page.context.new_cdp_session(page)
    for event in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": event, "data": data, **place})
    page.get_by_role("button", name="Import", exact=True).click()


def upload(page: Page, file: Path, content: bytes) -> None:
    file.write_bytes(content)
    page.get_by_label("CSV file").set_input_files(file)
    page.get_by_role("button", name="Import", exact=True).click()


@pytest.mark.pictures
def test_a_person_imports_contacts_and_watches(page: Page, site: Project, tmp_path: Path) -> None:
    database = database_of(site)
    expect(page.get_by_text("No imports yet.")).to_be_visible()
    drop(page, tmp_path / "customers.csv", make_contacts_file(10_000).content)
    expect(page.get_by_text("Done", exact=True)).to_be_visible(timeout=30_000)
    expect(page.get_by_text("9,900 rows imported, 100 rejected")).to_be_visible()

    content = make_contacts_file(100_000, "reader").content
    with held_up(database, 60_000, "reader"):
        upload(page, tmp_path / "newsletter.csv", content)
        expect(page.get_by_text("Importing", exact=True)).to_be_visible()
        wait_until(database.blocked)
        bar = page.get_by_role("progressbar")
        expect(bar).to_have_attribute("value", "59", timeout=10_000)
        expect(page.get_by_text(re.compile(r"a second · [\d:]+ left"))).to_be_visible()
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
    assert lines[0].startswith("line,reason,")
    assert len(lines) > 1_000


@pytest.mark.pictures
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
    page: Page, new_page: NewPage, tmp_path: Path
) -> None:
    page = new_page(timezone_id="Asia/Tokyo")
    page.goto("/")
    page.get_by_role("button", name="Log in as developer").click()
    due = datetime.now(ZoneInfo("Asia/Tokyo")) + timedelta(days=1)
    page.get_by_text("Schedule for later").click()
    page.get_by_label("Start at (Asia/Tokyo)").fill(due.strftime("%Y-%m-%dT%H:%M"))
    upload(page, tmp_path / "later.csv", make_contacts_file(100).content)
    expect(page.get_by_text("Scheduled", exact=True)).to_be_visible()
    expect(page.get_by_text(f"starts {due.day} {due:%B %Y, %H:%M} JST")).to_be_visible()
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
    log_in(other, "bob", "correct horse")
    expect(other.get_by_text("No imports yet.")).to_be_visible()
    upload(other, tmp_path / "theirs.csv", make_contacts_file(1_000).content)
    expect(other.get_by_text("990 rows imported, 10 rejected")).to_be_visible(timeout=30_000)
    page.reload()
    expect(page.get_by_text("theirs.csv")).to_have_count(0)


@pytest.mark.pictures
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


def test_every_page_of_the_sample_is_accessible(page: Page, tmp_path: Path) -> None:
    check_accessibility(page)
    upload(page, tmp_path / "bad.csv", b"hello")
    check_accessibility(page)
    page.get_by_role("button", name="Try it").click()
    expect(page.get_by_text("9,980 rows imported, 20 rejected")).to_be_visible(timeout=30_000)
    check_accessibility(page)
    for path in ("/contacts/", "/contacts/?search=nobody"):
        page.goto(path)
        check_accessibility(page)


def test_developers_see_the_life_of_an_imports_jobs(
    page: Page, site: Project, tmp_path: Path
) -> None:
    events = page.locator(".life code")
    database = database_of(site)
    expect(page.get_by_text("Start an import, and see")).to_be_visible()
    database.execute(BUSY.format(table=f"{site.app}_contact"))
    upload(page, tmp_path / "people.csv", make_contacts_file(1_000).content)
    expect(page.get_by_text("Failed, but will be tried again")).to_be_visible()
    expect(page.get_by_text("OperationalError after line 1")).to_be_visible()
    retried = ["deferred", "started", "deferred_for_retry", "scheduled"]
    expect(events).to_have_text(retried)
    check_accessibility(page)
    database.execute("DROP FUNCTION busy CASCADE")
    succeeded = [*retried, "started", "succeeded", "deferred", "started", "succeeded"]
    expect(events).to_have_text(succeeded, timeout=30_000)
    panel = page.get_by_label("For developers")
    for job in ("import_contacts", "send_summary"):
        line = rf"Job \d+ {site.app}\.{job} in the queue default on worker \d+"
        expect(panel).to_contain_text(re.compile(line.replace(" ", r"\s+")))
    for file in (f"{site.app}/services.py", f"{site.app}/tasks.py", f"tasks/{site.app}.py"):
        expect(panel.get_by_text(file)).to_be_visible()
        assert (site.path / file).exists()


def test_all_but_the_live_updates_works_without_javascript(
    page: Page, new_page: NewPage, tmp_path: Path
) -> None:
    plain = new_page(java_script_enabled=False)

    def see_in_the_end(text: str) -> None:
        wait_until(lambda: plain.reload() and plain.get_by_text(text).count(), what=text)

    plain.goto("/")
    plain.get_by_role("button", name="Log in as developer").click()
    plain.get_by_text("Schedule for later").click()
    due = datetime.now(UTC) + timedelta(days=1)
    plain.get_by_label("Start at (UTC)").fill(due.strftime("%Y-%m-%dT%H:%M"))
    upload(plain, tmp_path / "people.csv", make_contacts_file(1_000).content)
    plain.get_by_role("button", name="Cancel people.csv").click()
    plain.get_by_role("button", name="Retry people.csv").click()
    see_in_the_end("990 rows imported, 10 rejected")
    plain.get_by_role("button", name="Try it").click()
    see_in_the_end("9,980 rows imported, 20 rejected")
    plain.get_by_role("link", name="Contacts", exact=True).click()
    plain.get_by_label("Search").fill("grace k")
    plain.get_by_role("button", name="Search").click()
    plain.get_by_role("link", name="Next page").click()
    expect(plain.get_by_role("cell", name="Grace Kim").first).to_be_visible()
    plain.get_by_role("button", name="Log out").click()
    expect(plain.get_by_role("heading", name="Log in")).to_be_visible()


def test_a_person_logs_in_and_out_and_chooses_passwords(
    running: Running, new_page: NewPage, site: Project
) -> None:
    site.run("manage.py", "shell", f"--command={BOB}")
    page = new_page()

    def see(heading: str) -> None:
        expect(page.get_by_role("heading", name=heading)).to_be_visible()
        check_accessibility(page)

    def choose(password: str) -> None:
        page.get_by_label("New password:", exact=True).fill(password)
        page.get_by_label("New password confirmation:").fill(password)
        page.get_by_role("button", name="Change password").click()

    log_in(page, "bob", "wrong")
    expect(page.get_by_text("Please enter a correct username")).to_be_visible()
    see("Log in")
    log_in(page, "bob", "correct horse")
    see("Import contacts")
    page.get_by_role("link", name="change password").click()
    see("Change password")
    page.get_by_label("Old password").fill("correct horse")
    choose("battery staple")
    see("Password changed")
    page.get_by_role("button", name="Log out").click()
    see("Log in")

    page.get_by_role("link", name="Forgot your password?").click()
    see("Reset password")
    page.get_by_label("Email").fill("bob@example.com")
    page.get_by_role("button", name="Send the link").click()
    see("Look at your e-mail")
    # Django 6 breaks the long lines of an e-mail, on the console too.
    mail = re.compile(r"http://\S+/reset/\S+/$", re.MULTILINE)
    [link] = wait_until(lambda: mail.findall(re.sub(r"=\n.*?\| ", "", running.output)))
    page.goto(link)
    see("Choose a new password")
    choose("purple monkey")
    see("Password changed")
    page.goto(link)
    see("This link is no longer valid")
    log_in(page, "bob", "battery staple")
    expect(page.get_by_text("Please enter a correct username")).to_be_visible()
    log_in(page, "bob", "purple monkey")
    see("Import contacts")


def test_the_developers_button_is_there_on_three_conditions(
    site: Project, start: Start, deployed: None
) -> None:
    def has_button(port: int, client: str = "127.0.0.1", **headers: str) -> bool:
        transport = httpx.HTTPTransport(local_address=client)
        with httpx.Client(transport=transport, headers=headers) as browser:
            page = browser.get(f"http://127.0.0.1:{port}/accounts/login/")
        assert "Forgot your password?" in page.text
        return "Log in as developer" in page.text

    def serve(**env: str) -> int:
        port = free_port()
        server = start(site, "manage.py", "runserver", "--noreload", str(port), **env)
        server.wait_for("Quit the server")
        return port

    development = serve()
    assert has_button(development)
    assert not has_button(development, client="127.0.0.2")
    assert not has_button(serve(DATABASE_URL=database_of(site).url))
    assert not has_button(port_of(site), **HTTPS)


def test_every_error_page_is_accessible(new_page: NewPage, site: Project, deployed: None) -> None:
    page = new_page(400, 403, 404, 500, extra_http_headers=HTTPS)

    def see(path: str, status: int, heading: str) -> None:
        response = page.goto(path)
        assert response
        assert response.status == status
        expect(page.get_by_role("heading", name=heading)).to_be_visible()
        check_accessibility(page)

    log_in(page, "eve", "correct horse")
    see("/contacts/", 403, "You may not do this")
    see("/nothing/", 404, "There is no such page")
    # More fields than Django reads.
    see(f"/accounts/login/?{'a&' * 1001}", 400, "This request makes no sense")
    page.goto("/accounts/login/")
    page.context.clear_cookies()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="This form is too old")).to_be_visible()
    check_accessibility(page)
    log_in(page, "eve", "correct horse")
    database_of(site).execute(f"DROP TABLE {site.app}_contactimport CASCADE")
    see("/", 500, "Something went wrong")


# What a page took since it was asked for: requests, but for the icon, which comes when it likes,
# bytes and milliseconds.
MEASURE = """() => {
    const [paint] = performance.getEntriesByName("first-contentful-paint");
    const entries = performance.getEntries().filter(
        entry => ["navigation", "link", "script"].includes(entry.initiatorType)
    );
    const bytes = entries.reduce((sum, entry) => sum + entry.transferSize, 0);
    return paint && {requests: entries.length, bytes, paint: Math.round(paint.startTime)};
}"""


def test_the_first_page_is_light(
    new_page: NewPage, deployed: None, capsys: pytest.CaptureFixture[str]
) -> None:
    page = new_page(extra_http_headers=HTTPS)
    log_in(page, "bob", "correct horse")
    page.context.new_cdp_session(page).send("Network.clearBrowserCache")
    page.reload()
    cold = wait_until(lambda: page.evaluate(MEASURE))
    page.goto("/")
    warm = wait_until(lambda: page.evaluate(MEASURE))
    with capsys.disabled():
        print(f"\nThe first page: cold {cold}, warm {warm}")
    assert cold["requests"] <= 4
    assert cold["bytes"] < 40_000
    assert warm["bytes"] < 5_000


def test_the_first_page_without_an_app_is_a_useful_blank(
    site: Project, start: Start, new_page: NewPage
) -> None:
    urls = site.path / site.slug / "urls.py"
    before = urls.read_text()
    urls.write_text(before.replace(f'    path("", include("{site.app}.urls")),\n', ""))
    try:
        start(site, "honcho", "start", "web").wait_for("Quit the server", 60)
        page = new_page()
        page.goto("/")
        page.get_by_role("button", name="Log in as developer").click()
        expect(page.get_by_role("heading", name="It works")).to_be_visible()
        expect(page.get_by_role("link", name="Contacts")).to_have_count(0)
        check_accessibility(page)
    finally:
        urls.write_text(before)


@pytest.mark.pictures
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
    check_accessibility(page)
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
