"""The first page in a real browser: what a person sees."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from conftest import (
    Project,
    Running,
    Stack,
    both_stacks,
    browsing,
    choose_port,
    render,
    starting,
    stop,
    wait_until,
)
from contacts_file import make_contacts_file
from documents import commands, section
from pictures import take_picture
from playwright.sync_api import Locator, Page, expect
from screen import BOB, NewPage, check_accessibility, log_in, upload
from site_at_work import block_import, database_of, start_site

pytestmark = both_stacks

# Makes inserts fail as if another transaction were in the way.
BUSY = """
CREATE FUNCTION busy() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN RAISE EXCEPTION 'busy' USING ERRCODE = 'serialization_failure'; END $$;
CREATE TRIGGER busy BEFORE INSERT ON {table} FOR EACH STATEMENT EXECUTE FUNCTION busy()
"""

# A day of a queue with a busy afternoon.
DAY = """
INSERT INTO jobs_queuesample (minute, queue, waiting, running, wait, succeeded, failed)
SELECT now() - n * interval '10 minutes', 'default',
    40 + 30 * sin(n / 9.0) + CASE WHEN n BETWEEN 30 AND 60 THEN 12 * (15 - abs(n - 45)) ELSE 0 END,
    4, CASE WHEN n BETWEEN 40 AND 51 THEN 400 ELSE 5 END,
    300 + 100 * sin(n / 9.0), CASE WHEN n < 3 THEN 90 - 30 * n ELSE 0 END
FROM generate_series(0, 143) n RETURNING id
"""

# A night on which a mail server is down: jobs have failed, and others wait behind a lock.
BURNING = """
WITH failed AS (
    INSERT INTO procrastinate_jobs (queue_name, task_name, args, attempts, priority)
    SELECT 'default', '{app}.send_summary', jsonb_build_object('import_id', 1000 + n), 1, 7
    FROM generate_series(1, 39) n RETURNING id
)
INSERT INTO jobs_jobfailure (job_id, attempt, exception, message, traceback, host, at)
SELECT id, 1, 'SMTPServerDisconnected', 'Connection unexpectedly closed', '', 'worker-1', now()
FROM failed;
UPDATE procrastinate_jobs SET status = 'doing' WHERE priority = 7;
UPDATE procrastinate_jobs SET status = 'failed' WHERE priority = 7;
INSERT INTO procrastinate_jobs (queue_name, task_name, args, lock, scheduled_at)
SELECT 'mail', '{app}.send_summary', jsonb_build_object('import_id', 1000 + n), 'mail',
    CASE n WHEN 0 THEN now() + interval '1 day' END
FROM generate_series(0, 212) n;
UPDATE procrastinate_events SET at = at - interval '12 minutes'
WHERE job_id IN (SELECT id FROM procrastinate_jobs WHERE queue_name = 'mail')
"""

# A failure and a worker as they look in production, not on the machine that takes their picture.
SOMEWHERE_ELSE = r"""
WITH worker AS (UPDATE jobs_workerinfo SET host = 'worker-1', pid = 7)
UPDATE jobs_jobfailure SET host = 'worker-1', traceback = regexp_replace(
    regexp_replace(traceback, %s || '/(?!jobs/)', '/srv/my_project/', 'g'),
    '"/(?!srv/)[^"]*/(python3)', '"/usr/lib/\1', 'g')
RETURNING id
"""


# Removes what a test has stored.
REMOVE_DATA = """
SET session_replication_role = replica;
DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename NOT IN (
        'auth_permission', 'django_content_type', 'django_migrations', 'jobs_workerinfo',
        'procrastinate_workers', 'users_user'
    ) LOOP
        EXECUTE format('DELETE FROM %I', name);
    END LOOP;
END $$;
DELETE FROM users_user WHERE username <> 'dev';
"""


@pytest.fixture(scope="module")
def running_site(
    stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Project, Running]]:
    """A running site with its worker, for all tests of this module."""
    folder = tmp_path_factory.mktemp("running_site")
    project = stack.lend(render(folder))
    services = project.path / project.app / "services.py"
    assert "SAMPLE_ROWS = 100_000" in services.read_text()
    services.write_text(services.read_text().replace("ROWS = 100_000", "ROWS = 500"))
    stack.start_database(project)
    choose_port(project)
    with starting(folder) as start, browsing() as browse:
        running, _ = start_site(project, start, browse)
        yield project, running
        assert running.interrupt() == 130
        assert not project.processes()
    stop(project)


@pytest.fixture
def site(running_site: tuple[Project, Running]) -> Iterator[Project]:
    """The running site; what a test has stored is removed at its end."""
    project, _ = running_site
    yield project
    database = database_of(project)
    running = "SELECT 1 FROM procrastinate_jobs WHERE status = 'doing'"
    wait_until(lambda: not database.query(running), what="an idle worker")
    database.execute(REMOVE_DATA)


@pytest.fixture
def running(running_site: tuple[Project, Running], site: Project) -> Running:
    return running_site[1]


@pytest.fixture
def page(running: Running, new_page: NewPage) -> Page:
    """The first page of the running site, with the developer logged in."""
    page = new_page()
    page.goto("/")
    page.get_by_role("button", name="Log in as developer").click()
    return page


def drop(page: Page, target: Locator, file: Path, content: bytes) -> None:
    """Drag a file from the file manager to the page, and drop it there."""
    file.write_bytes(content)
    box = target.bounding_box()
    assert box
    place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
    session = page.context.new_cdp_session(page)
    for event in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": event, "data": data, **place})
    page.get_by_role("button", name="Import", exact=True).click()


@pytest.mark.pictures
def test_a_person_imports_contacts_and_watches(page: Page, site: Project, tmp_path: Path) -> None:
    database = database_of(site)
    expect(page.get_by_text("No imports yet.")).to_be_visible()
    beside = page.get_by_text("No imports yet.")
    drop(page, beside, tmp_path / "customers.csv", make_contacts_file(10_000).content)
    expect(page.get_by_text("Done", exact=True)).to_be_visible()
    # A screen reader announces it.
    expect(page.get_by_role("status").filter(has_text="customers.csv: Done")).to_have_count(1)
    expect(page.get_by_text("9,900 rows imported, 100 rejected")).to_be_visible()

    content = make_contacts_file(100_000, "reader").content
    with block_import(database, 60_000, "reader"):
        upload(page, tmp_path / "newsletter.csv", content)
        expect(page.get_by_text("Importing", exact=True)).to_be_visible()
        wait_until(database.blocked)
        bar = page.get_by_role("progressbar")
        expect(bar).to_have_attribute("value", "59")
        expect(page.get_by_text(re.compile(r"^[\d:]+ left"))).to_be_visible()
        page.set_viewport_size({"width": 1200, "height": 860})
        take_picture(page, "import")
        page.emulate_media(color_scheme="dark")
        take_picture(page, "import-dark")
        page.set_viewport_size({"width": 390, "height": 844})
        take_picture(page, "import-phone")
        page.emulate_media(color_scheme="light")
    expect(bar).to_have_count(0)
    expect(page.get_by_text("99,000 rows imported, 1,000 rejected")).to_be_visible()

    with page.expect_download() as download:
        page.get_by_role("link", name="Download rejected rows of newsletter.csv").click()
    lines = download.value.path().read_text(encoding="utf-8-sig").splitlines()
    assert lines[0].startswith("line,reason,")
    assert len(lines) > 1_000


@pytest.mark.pictures
def test_the_sample_needs_no_file_and_fills_the_contacts(page: Page) -> None:
    page.get_by_role("button", name="Try 100,000 sample contacts").click()
    expect(page.get_by_text("499 rows imported, 1 rejected")).to_be_visible()
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


def test_a_bad_file_is_rejected_next_to_its_field(page: Page, tmp_path: Path) -> None:
    upload(page, tmp_path / "bad.csv", b"hello")
    expect(page.get_by_text("lines must name the columns")).to_be_visible()
    expect(page.get_by_text("No imports yet.")).to_be_visible()


def test_without_a_script_a_file_is_dropped_on_the_field(new_page: NewPage, tmp_path: Path) -> None:
    page = new_page(java_script_enabled=False)
    page.goto("/")
    page.get_by_role("button", name="Log in as developer").click()
    field = page.get_by_label("CSV file")
    drop(page, field, tmp_path / "people.csv", make_contacts_file(100).content)
    expect(page.get_by_role("heading", name="people.csv")).to_be_visible()


def test_on_a_phone_the_header_is_one_line_with_a_menu(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    box = page.get_by_role("banner").bounding_box()
    assert box
    assert box["height"] < 65
    link = page.get_by_role("link", name="Contacts", exact=True)
    expect(link).to_be_hidden()
    page.get_by_role("button", name="Menu").click()
    check_accessibility(page)
    link.click()
    expect(page.get_by_role("heading", name="Contacts")).to_be_visible()


# The pauses after requests that fail one after another, in seconds, when chance makes them longest.
PAUSES = """() => {
    let now = Date.now();
    Date.now = () => now;
    Math.random = () => 1;
    const elt = document.querySelector("[data-live]");
    const happen = (name) => elt.dispatchEvent(new CustomEvent(
        `htmx:${name}`,
        {bubbles: true, cancelable: true, detail: {requestConfig: {elt}, successful: false}}
    ));
    return [1, 2, 3, 4, 5, 6].map(() => {
        happen("afterRequest");
        const begin = now;
        while (!happen("beforeRequest")) now += 1000;
        return (now - begin) / 1000;
    });
}"""


# Whether a page asks for its new content, while its tab is hidden and afterwards.
ASKS = """() => [true, false].map((hidden) => {
    Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
    const elt = document.querySelector("[data-live]");
    return elt.dispatchEvent(new CustomEvent(
        "htmx:beforeRequest", {bubbles: true, cancelable: true, detail: {requestConfig: {elt}}}
    ));
})"""


# Whether new content replaces the old, while a mouse button is pressed and afterwards.
SWAPS = """() => ["pointerdown", "pointerup"].map((type) => {
    document.dispatchEvent(new Event(type));
    const elt = document.querySelector("[data-live]");
    const xhr = {responseURL: location.href, responseText: `id="${elt.id}"`};
    const pathInfo = {requestPath: location.href};
    const detail = {xhr, pathInfo, requestConfig: {elt}, shouldSwap: true};
    elt.dispatchEvent(new CustomEvent("htmx:beforeSwap", {bubbles: true, detail}));
    return detail.shouldSwap;
})"""


@pytest.mark.parametrize("path", ["/", "/jobs/", "/jobs/list/"])
def test_pages_that_follow_jobs_rest_in_a_hidden_tab_and_after_failures(
    page: Page, path: str
) -> None:
    page.goto(path)
    assert page.evaluate(ASKS) == [False, True]
    assert page.evaluate(SWAPS) == [False, True]
    assert page.evaluate(PAUSES) == [2, 4, 8, 16, 30, 30]
    expect(page.get_by_text("The server does not answer")).to_be_visible()


def test_a_cancelled_import_stops_and_can_be_resumed(
    page: Page, site: Project, tmp_path: Path
) -> None:
    database = database_of(site)
    file = make_contacts_file(20_000)
    with block_import(database, 12_000):
        upload(page, tmp_path / "long.csv", file.content)
        wait_until(database.blocked)
        page.get_by_role("button", name="Cancel long.csv").click()
        expect(page.get_by_text("Stopping", exact=True)).to_be_visible()
    expect(page.get_by_text("Cancelled", exact=True)).to_be_visible()
    stopped = database.last_import()
    assert stopped["status"] == "aborted"
    assert 0 < stopped["imported"] < file.good
    page.get_by_role("button", name="Retry long.csv").click()
    expect(page.get_by_text("19,800 rows imported, 200 rejected")).to_be_visible()
    assert database.contacts() == file.contacts


def test_a_failed_import_says_why_and_can_be_resumed(
    page: Page, site: Project, tmp_path: Path
) -> None:
    database = database_of(site)
    table = f"{site.app}_contact"
    rule = f"ALTER TABLE {table} ADD CONSTRAINT nobody CHECK (email <> 'person6000@example.com')"
    database.execute(rule)
    upload(page, tmp_path / "people.csv", make_contacts_file(10_000).content)
    expect(page.get_by_text("Failed", exact=True)).to_be_visible()
    expect(page.get_by_text("IntegrityError after line")).to_be_visible()
    database.execute(f"ALTER TABLE {table} DROP CONSTRAINT nobody")
    page.get_by_role("button", name="Retry people.csv").click()
    expect(page.get_by_text("9,900 rows imported, 100 rejected")).to_be_visible()
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
    expect(page.get_by_text("This file is already being imported")).to_be_visible()
    page.get_by_role("button", name="Cancel later.csv").click()
    expect(page.get_by_text("Cancelled", exact=True)).to_be_visible()


def test_two_people_see_only_their_own_imports(
    page: Page, new_page: NewPage, site: Project, tmp_path: Path
) -> None:
    site.run("manage.py", "shell", f"--command={BOB}")
    upload(page, tmp_path / "ours.csv", make_contacts_file(1_000).content)
    expect(page.get_by_text("990 rows imported, 10 rejected")).to_be_visible()
    other = new_page()
    log_in(other, "bob", "correct horse")
    expect(other.get_by_text("No imports yet.")).to_be_visible()
    upload(other, tmp_path / "theirs.csv", make_contacts_file(1_000).content)
    expect(other.get_by_text("990 rows imported, 10 rejected")).to_be_visible()
    page.reload()
    expect(page.get_by_text("theirs.csv")).to_have_count(0)


def test_every_page_of_the_sample_is_accessible(page: Page, tmp_path: Path) -> None:
    check_accessibility(page)
    upload(page, tmp_path / "bad.csv", b"hello")
    check_accessibility(page)
    page.get_by_role("button", name="Try 100,000").click()
    expect(page.get_by_text("499 rows imported, 1 rejected")).to_be_visible()
    check_accessibility(page)
    for path in ("/contacts/", "/contacts/?search=nobody"):
        page.goto(path)
        check_accessibility(page)


def distinct_events(events: Locator) -> str:
    """Return the events of jobs, with only the first of several retries."""
    return re.sub(
        r"(deferred_for_retry scheduled) (started \1 ?)+",
        r"\1 ",
        " ".join(events.all_text_contents()),
    ).strip()


def test_developers_see_the_life_of_an_imports_jobs(
    page: Page, site: Project, tmp_path: Path
) -> None:
    events = page.locator(".history code")
    database = database_of(site)
    expect(page.get_by_text("No jobs yet. Start one")).to_be_visible()
    database.execute(BUSY.format(table=f"{site.app}_contact"))
    upload(page, tmp_path / "people.csv", make_contacts_file(1_000).content)
    expect(page.get_by_text("Failed, but will be tried again", exact=True)).to_be_visible()
    expect(page.get_by_text("OperationalError after line 1")).to_be_visible()
    retried = "deferred started deferred_for_retry scheduled"
    wait_until(lambda: distinct_events(events) == retried)
    check_accessibility(page)
    database.execute("DROP FUNCTION busy CASCADE")
    succeeded = f"{retried} started succeeded deferred started succeeded"
    wait_until(lambda: distinct_events(events) == succeeded)
    panel = page.get_by_label("For developers")
    for job in ("import_contacts", "send_summary"):
        line = rf"Job \d+ {site.app}\.{job} in the queue default on worker \d+"
        expect(panel).to_contain_text(re.compile(line.replace(" ", r"\s+")))
    for file in (f"{site.app}/services.py", f"{site.app}/tasks.py", f"tasks/{site.app}.py"):
        expect(panel.get_by_text(file)).to_be_visible()
        assert (site.path / file).exists()


def test_everything_but_live_updates_works_without_javascript(
    page: Page, new_page: NewPage, tmp_path: Path
) -> None:
    plain = new_page(java_script_enabled=False)

    def wait_for_text(text: str) -> None:
        wait_until(lambda: plain.reload() and plain.get_by_text(text).count(), what=text)

    plain.goto("/")
    plain.get_by_role("button", name="Log in as developer").click()
    plain.get_by_text("Schedule for later").click()
    due = datetime.now(UTC) + timedelta(days=1)
    plain.get_by_label("Start at (UTC)").fill(due.strftime("%Y-%m-%dT%H:%M"))
    upload(plain, tmp_path / "people.csv", make_contacts_file(1_000).content)
    plain.get_by_role("button", name="Cancel people.csv").click()
    plain.get_by_role("button", name="Retry people.csv").click()
    wait_for_text("990 rows imported, 10 rejected")
    plain.get_by_role("button", name="Try 100,000").click()
    wait_for_text("499 rows imported, 1 rejected")
    plain.get_by_role("link", name="Contacts", exact=True).click()
    plain.get_by_label("Search").fill("grace k")
    plain.get_by_role("button", name="Search").click()
    plain.get_by_role("link", name="Next page").click()
    expect(plain.get_by_role("cell", name="Grace Kim").first).to_be_visible()

    plain.get_by_role("link", name="Jobs", exact=True).click()
    plain.get_by_text("Pause queue default").click()
    plain.get_by_label("Why?").fill("No script")
    plain.get_by_role("button", name="Pause").click()
    expect(plain.get_by_text("by dev: No script")).to_be_visible()
    plain.get_by_role("button", name="Resume").click()
    plain.get_by_role("link", name="All jobs").click()
    plain.get_by_label("State").select_option("cancelled")
    plain.get_by_role("button", name="Show").click()
    expect(plain.get_by_label("Choose all jobs")).to_be_hidden()
    plain.get_by_label("Choose job").first.check()
    plain.get_by_role("button", name="Run again").click()
    expect(plain.get_by_text("Run again: 1 of 1 job.")).to_be_visible()
    plain.get_by_role("link", name="Overview").click()
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
    see("Check your e-mail")
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


@pytest.mark.pictures
def test_staff_see_the_queues_and_why_a_job_failed(page: Page, site: Project) -> None:
    database = database_of(site)
    code = f"from {site.app} import tasks; tasks.send_summary.defer(import_id=0)"
    site.run("manage.py", "shell", "--command", code)
    wait_until(lambda: database.query("SELECT 1 FROM jobs_jobfailure"))
    database.query(SOMEWHERE_ELSE, [str(site.path)])
    database.query(DAY)

    page.set_viewport_size({"width": 1440, "height": 900})
    page.get_by_role("link", name="Jobs", exact=True).click()
    expect(page.get_by_text("All queues are within their limits.")).to_be_visible()
    expect(page.get_by_label("State")).to_contain_text("1 job failed for good in the last day.")
    chart = page.locator("svg").first
    expect(chart).to_be_visible()
    assert chart.locator("rect").count() == 144
    assert chart.locator("rect.late").count() == 12
    (job,) = database.query("SELECT job_id FROM jobs_jobfailure")
    database.execute(BURNING.format(app=site.app))
    page.reload()
    expect(page.get_by_label("State")).to_contain_text("Queue mail: a job has waited for 0:12:")
    check_accessibility(page)
    take_picture(page, "queues")

    page.get_by_role("link", name="40 jobs failed for good").click()
    expect(page.get_by_role("rowheader")).to_have_count(40)
    expect(page.get_by_text("SMTPServerDisconnected: Connection un").first).to_be_visible()
    check_accessibility(page)
    take_picture(page, "jobs")
    name = f"{site.app}.send_summary {job['job_id']}"
    page.get_by_role("link", name=name, exact=True).click()
    expect(page.get_by_text("Traceback (most recent call last)")).to_be_visible()
    expect(page.get_by_text('File "/srv/my_project/tasks/myapp.py"')).to_be_visible()
    check_accessibility(page)
    page.set_viewport_size({"width": 1440, "height": 1180})
    take_picture(page, "failure")

    page.set_viewport_size({"width": 390, "height": 844})
    for path in ("/jobs/", "/jobs/list/?task=all"):
        page.goto(path)
        check_accessibility(page)
        assert page.evaluate("document.documentElement.scrollWidth <= 390"), path
    page.goto("/jobs/")
    take_picture(page, "jobs-phone")

    page.goto("/jobs/list/?state=failed")
    page.get_by_label("Choose all jobs on this page").check()
    page.get_by_role("button", name="Run again").click()
    expect(page.get_by_text("Run again: 40 of 40 jobs.")).to_be_visible()
    # The page follows the queue: the jobs fail once more.
    expect(page.get_by_role("rowheader")).to_have_count(40, timeout=15_000)
    expect(page.get_by_text("all 40 that match")).to_be_visible()

    page.clock.install()
    page.goto("/jobs/")
    page.get_by_text("Pause queue default").click()
    page.get_by_label("Why?").first.fill("The mail server is down")
    refreshes: list[object] = []
    page.on("request", lambda request: refreshes.append(request))
    page.clock.run_for(20_000)
    assert not refreshes, "the form would be gone"
    check_accessibility(page)
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("by dev: The mail server is down")).to_be_visible()
    check_accessibility(page)
    assert page.evaluate("document.documentElement.scrollWidth <= 390")
    page.set_viewport_size({"width": 1440, "height": 900})
    take_picture(page, "paused")
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_text("Queue default is resumed.")).to_be_visible()

    for line in commands(section(site, "docs/operate.md", "See what happens")):
        command = line.replace("123", str(job["job_id"])).removeprefix("uv run ")
        assert (
            "send_summary" in (printed := site.run(*command.split()).stdout)
            or "40 of 40" in printed
        )
