"""The site while its database is away, and after another server has taken over."""

from contextlib import suppress

import httpx
import psycopg
import pytest
from conftest import Browse, Project, Start, free_port, wait_until
from screen import BOB
from site_at_work import DEPLOYED

from .relay import Relay


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("hosts", ["one", "three"])
def test_the_web_follows_a_fail_over(
    site: Project, start: Start, browse: Browse, relay: Relay, system_postgres: str, hosts: str
) -> None:
    """The former server goes on, but only reads.

    With one host, its address leads to another server then. With three, DATABASE_URL has named
    both servers from the beginning, and a dead one.
    """
    with psycopg.connect(system_postgres, autocommit=True) as connection:
        connection.execute("CREATE ROLE dev LOGIN SUPERUSER")
        connection.execute("CREATE DATABASE dev OWNER dev")
    successor = ("127.0.0.1", int(httpx.URL(system_postgres).port or 0))
    new = f"postgresql://dev@127.0.0.1:{successor[1]}/dev"
    site.run("manage.py", "migrate", DATABASE_URL=new)
    for url in (site.database_url, new):
        site.run("manage.py", "shell", f"--command={BOB}", DATABASE_URL=url)
    address = f"127.0.0.1:{relay.server_address[1]}"
    if hosts == "three":
        address = f"127.0.0.1:{free_port()},{address},127.0.0.1:{successor[1]}"
    variables = DEPLOYED | {
        "DATABASE_URL": f"postgresql://dev@{address}/dev",
        "PORT": str(free_port()),
    }
    site.run("manage.py", "collectstatic", "--no-input", **variables)
    start(site, "gunicorn", f"{site.slug}.wsgi", **variables)
    browser = browse(int(variables["PORT"]), proxy=True)
    wait_until(browser.is_up, what="the site")

    def ready() -> int:
        return browser.client.get("/health/ready").status_code

    def log_in() -> bool:
        browser.client.cookies.clear()
        with suppress(httpx.HTTPStatusError):
            browser.log_in("bob", "correct horse")
            return True
        return False

    # Ten times, so that both processes have sessions in their pools.
    assert all(log_in() and ready() == 200 for _ in range(10))
    with psycopg.connect(site.database_url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        connection.execute("SELECT pg_reload_conf()")
    if hosts == "one":
        wait_until(lambda: {ready() for _ in range(10)} == {503})
        assert not log_in()
        relay.target = successor
    wait_until(log_in, 30)
    assert all(log_in() and ready() == 200 for _ in range(10))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("debug", ["off", "on"])
def test_the_site_says_that_its_database_is_away(
    site: Project, start: Start, browse: Browse, debug: str
) -> None:
    """A page within 5 seconds, a probe within 2; here, they have a few more on a busy machine."""
    site.run("manage.py", "shell", f"--command={BOB}")
    port = str(free_port())
    token = {"Authorization": "Bearer token"}
    if debug == "on":
        command = ("manage.py", "runserver", "--noreload", port)
        running = start(site, *command, METRICS_TOKEN="token")
    else:
        variables = DEPLOYED | {"DATABASE_URL": site.database_url, "PORT": port}
        site.run("manage.py", "collectstatic", "--no-input", **variables)
        running = start(site, "gunicorn", f"{site.slug}.wsgi", **variables, METRICS_TOKEN="token")
    browser = browse(int(port), proxy=debug == "off")
    wait_until(browser.is_up, what="the site")
    browser.log_in("bob", "correct horse")
    site.run("manage.py", "devdb", "stop")

    for path in ("/", "/admin/", "/metrics"):
        response = browser.client.get(path, headers=token, timeout=8)
        assert response.status_code == (500 if debug == "on" else 503)
        assert "does not answer. Try again" in response.text
    for _ in range(2):
        for probe in ("ready", "workers"):
            response = browser.client.get(f"/health/{probe}", timeout=5)
            assert response.status_code == 503
            assert response.text == "unavailable: the database does not answer"
    assert running.output.count("/health/ready: the database does not answer") == 1
    assert "error connecting in" in running.output

    site.run("manage.py", "devdb", "up")
    wait_until(lambda: browser.client.get("/health/ready").status_code == 200)
    assert "Import contacts" in browser.get("/")
