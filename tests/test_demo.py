"""`make demo` in a fresh checkout, from the start to Ctrl-C."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from conftest import TEMPLATE, Project, clean_environment, find_uv, free_port, stop, wait_until


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """What `make demo` will make, in a fresh checkout of the template as it is now."""
    folder = tmp_path / "checkout"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.check_output(listed, cwd=TEMPLATE, text=True).split("\0"):
        if (TEMPLATE / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(TEMPLATE / name, folder / name)
    project = Project(folder / "build" / "my_project", "my_project", "myapp")
    yield project
    if project.path.exists():
        stop(project)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_make_demo_serves_on_the_address_that_it_prints(project: Project, tmp_path: Path) -> None:
    port = free_port()
    log = tmp_path / "log"
    path = f"{Path(find_uv()).parent}:{os.environ['PATH']}"
    with log.open("wb") as output:
        demo = subprocess.Popen(
            ["make", "demo", f"PORT={port}"],
            cwd=project.path.parents[1],
            env=clean_environment() | {"PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def page() -> str:
        assert demo.poll() is None, log.read_text()
        for address in re.findall(r"The site will be on (http://\S+);", log.read_text()):
            with suppress(httpx.TransportError):
                return httpx.get(f"{address}/admin/", follow_redirects=True).text
        return ""

    assert "Log in as developer" in wait_until(page, 120, "the page")
    assert f"Starting development server at http://127.0.0.1:{port}/" in log.read_text()
    os.killpg(demo.pid, signal.SIGINT)
    assert demo.wait(30) == -signal.SIGINT  # make's own way to end at Ctrl-C
    assert not project.processes()
    assert not re.search("Traceback|SIGKILL|Error", log.read_text())
