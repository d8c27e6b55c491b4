"""nginx in front of the site, as the chapter on deploying prints it."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from conftest import Browse, Project, Start, free_port, skip_or_fail, wait_until
from documents import blocks, section
from site_at_work import VARIABLES, database_of


@pytest.fixture
def gunicorn(site: Project, start: Start, browse: Browse) -> int:
    """The port of the site in production."""
    port = free_port()
    variables = VARIABLES | {"DEBUG": "off", "DATABASE_URL": database_of(site).url}
    site.run("manage.py", "collectstatic", "--no-input", **variables)
    start(site, "gunicorn", f"{site.slug}.wsgi", **variables, PORT=str(port))
    wait_until(browse(port, proxy=True).is_up, what="the site")
    return port


@pytest.fixture
def proxy(project: Project, gunicorn: int, tmp_path: Path) -> Iterator[int]:
    """The port of nginx, with the printed configuration but without TLS."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    if not program:
        skip_or_fail("no nginx: apt-get install nginx")
    port = free_port()
    (server,) = blocks(section(project, "docs/deploy.md", "A proxy in front"), "nginx")
    text = re.sub(r"^ *ssl_.*\n", "", server.content, flags=re.MULTILINE)
    text = text.replace("listen 443 ssl;", f"listen 127.0.0.1:{port};")
    text = text.replace("127.0.0.1:8000", f"127.0.0.1:{gunicorn}")
    # Debian's own configuration has the rest.
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = "".join(f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in kinds)
    config = tmp_path / "nginx.conf"
    config.write_text(
        f"{'user root;' if os.geteuid() == 0 else ''}\n"
        f"pid {tmp_path}/pid;\nerror_log stderr;\ndaemon off;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{folders}{text}}}\n"
    )
    process = subprocess.Popen([program, "-e", "stderr", "-c", str(config)])
    wait_until(lambda: answers(port), 30, "nginx")
    yield port
    process.terminate()
    process.wait(30)


def answers(port: int) -> bool:
    """Tell if the site answers within five seconds."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/live", timeout=5).text == "ok"
    except httpx.TransportError:
        return False


REQUEST = "{} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Forwarded-Proto: https\r\n{}"


def post(length: int, **headers: str) -> bytes:
    """Return the beginning of a request with a body."""
    headers |= {
        "Content-Length": str(length),
        "Content-Type": "application/x-www-form-urlencoded",
        "Referer": "https://127.0.0.1/",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return REQUEST.format("POST /accounts/login/", f"{lines}\r\n").encode()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["headers", "bodies"])
def test_forty_slow_clients_do_not_stop_the_site(proxy: int, kind: str) -> None:
    start = REQUEST.format("GET /", "Cookie: ").encode()
    if kind == "bodies":
        # With its cookie, Django reads the body.
        page = httpx.get(f"http://127.0.0.1:{proxy}/accounts/login/")
        start = post(1_000_000, Cookie=f"csrftoken={page.cookies['csrftoken']}")
    with ExitStack() as clients:
        slow = [
            clients.enter_context(socket.create_connection(("127.0.0.1", proxy))) for _ in range(40)
        ]
        for _ in range(3):
            for client in slow:
                client.sendall(start)
            start = b"a" * 5_000 if kind == "bodies" else b"a"
            assert answers(proxy)


@pytest.mark.parametrize(
    ("through", "length"), [("gunicorn", 3_000_000), ("proxy", 3_000_000), ("proxy", 300_000_000)]
)
def test_a_large_body_without_a_login_is_refused_unread(
    proxy: int, gunicorn: int, through: str, length: int
) -> None:
    port = {"gunicorn": gunicorn, "proxy": proxy}[through]
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(post(length))
        # nginx reads what it will pass on; all else is refused before the body arrives.
        if (through, length) == ("proxy", 3_000_000):
            client.sendall(b"a" * length)
        assert client.recv(12) == b"HTTP/1.1 413"
