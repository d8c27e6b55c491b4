"""Pages of a site that is started in another way: without DEBUG, a worker or an app."""

import socket
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from conftest import Browse, Project, Running, Start, both_stacks, free_port, wait_until
from contacts_file import make_contacts_file
from pictures import take_picture
from playwright.sync_api import Page, expect
from screen import BOB, NewPage, check_accessibility, log_in, upload
from site_at_work import DEPLOYED, block_import, database_of, workers


@pytest.fixture
def deployed(site: Project, start: Start, browse: Browse) -> Callable[[], Running]:
    """Serve the site without DEBUG, with the users bob and eve; return what serves it again."""
    site.run("manage.py", "shell", f"--command={BOB}")
    address = f"127.0.0.1:{site.port}"
    variables = DEPLOYED | {
        "DATABASE_URL": database_of(site).url,
        "CSRF_TRUSTED_ORIGINS": f"http://{address}",
        "PORT": str(site.port),
        "PYTHONPATH": ".",
    }
    site.run("manage.py", "collectstatic", "--no-input", **variables)

    def serve() -> Running:
        running = start(site, "gunicorn", f"{site.slug}.wsgi", **variables)
        wait_until(browse(site.port, proxy=True).is_up, what="the site")
        return running

    serve()
    return serve


WORKER = ("procrastinate", "--app=tasks.app", "worker")

# The header of a proxy that terminates TLS.
HTTPS = {"X-Forwarded-Proto": "https"}


@pytest.mark.pictures
@pytest.mark.slow
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
    with block_import(database, 6_000):
        upload(page, tmp_path / "long.csv", make_contacts_file(10_000).content)
        wait_until(database.blocked)
        expect(page.get_by_text("No worker is running")).to_have_count(0)
        for process in workers(site):
            process.kill()
        expect(page.get_by_text("No worker is running")).to_be_visible()
        take_picture(page, "no-worker")


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_pages_go_on_when_the_server_is_back(
    new_page: NewPage,
    site: Project,
    start: Start,
    deployed: Callable[[], Running],
    tmp_path: Path,
) -> None:
    """They say so, are never replaced by an error page, and are right again by themselves."""
    # htmx logs the failures too.
    expected = (500, 503, "ERR_CONNECTION_", "ERR_EMPTY_RESPONSE", "Response Status Error", "htmx:")

    def open_page() -> Page:
        page = new_page(*expected, extra_http_headers=HTTPS)
        log_in(page, "bob", "correct horse")
        return page

    page = open_page()
    database = database_of(site)
    start(site, *WORKER, PYTHONPATH=".", DATABASE_URL=database.url)
    unanswered = page.get_by_text("The server does not answer")
    followers = {path: open_page() for path in ("/jobs/", "/jobs/list/", "/jobs/{}/")}
    with block_import(database, 500) as release:
        upload(page, tmp_path / "people.csv", make_contacts_file(1_000).content)
        wait_until(database.blocked)
        expect(unanswered).to_be_hidden()
        for path, follower in followers.items():
            follower.goto(path.format(database.last_import()["job_id"]))
            expect(follower.get_by_text("running").last).to_be_visible()
        # With 200, a proxy may answer that the site is down.
        for status in (500, 503, 200):
            page.route("**/imports/", lambda route: route.fulfill(status=status))  # noqa: B023
            expect(unanswered).to_be_visible()
            page.unroute("**/imports/")
            expect(unanswered).to_be_hidden()
        for process in site.processes():
            if "gunicorn" in " ".join(process.cmdline()):
                process.kill()
        expect(unanswered).to_be_visible()
        for follower in followers.values():
            warning = follower.get_by_text("The server does not answer")
            expect(warning).to_be_visible(timeout=30_000)
            expect(follower.get_by_text("running").last).to_be_visible()
        release()
    wait_until(lambda: database.last_import()["finished_at"])
    deployed()
    expect(page.get_by_text("Done", exact=True)).to_be_visible(timeout=60_000)
    expect(unanswered).to_be_hidden()
    for path, follower in followers.items():
        done = "Done in an hour" if path == "/jobs/" else "succeeded"
        warning = follower.get_by_text("The server does not answer")
        expect(warning).to_be_hidden(timeout=60_000)
        expect(follower.get_by_text(done, exact=True).last).to_be_visible()


def test_a_large_body_without_a_login_is_refused_unread(site: Project, deployed: object) -> None:
    headers = {"Host": "127.0.0.1", "Content-Length": "3000000", **HTTPS}
    headers["Content-Type"] = "application/x-www-form-urlencoded"
    lines = ["POST / HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    with socket.create_connection(("127.0.0.1", site.port), timeout=30) as client:
        client.sendall("\r\n".join(lines).encode())
        assert client.recv(12) == b"HTTP/1.1 413"


def test_the_developers_button_needs_three_conditions(
    site: Project, start: Start, deployed: object
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
    assert not has_button(site.port, **HTTPS)


@both_stacks
def test_every_error_page_is_accessible(new_page: NewPage, site: Project, deployed: object) -> None:
    page = new_page(400, 403, 404, 500, extra_http_headers=HTTPS)

    def see(path: str, status: int, heading: str) -> None:
        response = page.goto(path)
        assert response
        assert response.status == status
        expect(page.get_by_role("heading", name=heading)).to_be_visible()
        check_accessibility(page)

    log_in(page, "eve", "correct horse")
    see("/contacts/", 403, "You may not do this")
    see("/nothing/", 404, "Page not found")
    # More fields than Django reads.
    see(f"/accounts/login/?{'a&' * 1001}", 400, "Bad request")
    page.goto("/accounts/login/")
    page.context.clear_cookies()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="This form is too old")).to_be_visible()
    check_accessibility(page)
    log_in(page, "eve", "correct horse")
    database_of(site).execute(f"DROP TABLE {site.app}_contactimport CASCADE")
    see("/", 500, "Something went wrong")


# What a page took to load: requests (without the icon, which may come later), bytes, and the
# milliseconds until the first paint.
MEASURE = """() => {
    const [paint] = performance.getEntriesByName("first-contentful-paint");
    const entries = performance.getEntries().filter(
        entry => ["navigation", "link", "script"].includes(entry.initiatorType)
    );
    const bytes = entries.reduce((sum, entry) => sum + entry.transferSize, 0);
    return paint && {requests: entries.length, bytes, paint: Math.round(paint.startTime)};
}"""


def test_the_first_page_is_light(
    new_page: NewPage, deployed: object, capsys: pytest.CaptureFixture[str]
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
    # The page, two stylesheets and four scripts.
    assert cold["requests"] <= 7
    assert cold["bytes"] < 40_000
    assert warm["bytes"] < 5_000


def test_the_first_page_without_an_app_says_that_it_works(
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
