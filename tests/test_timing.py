"""How long a user waits, from the first command on: printed with `-s`, without a limit.

`TEMPLATE_BEFORE=<checkout>` measures another checkout of the template, for a before and after.
"""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from browser import Browser
from conftest import TEMPLATE, Browse, Project, Running, Start, find_uv, stop, wait_until
from site_at_work import DEVELOPMENT, press_ctrl_c

READY = "Starting worker on all queues"


class Stopwatch:
    """Prints the seconds from one moment to the next."""

    def __init__(self) -> None:
        self.begun = time.monotonic()

    def lap(self, what: str) -> None:
        """Print what took the time since the last lap."""
        now = time.monotonic()
        print(f"{now - self.begun:7.2f} s  {what}")
        self.begun = time.monotonic()


def up(browser: Browser, running: Running) -> Callable[[], bool]:
    """Return a condition: the site answers, or has ended."""
    return lambda: browser.is_up() or running.process.poll() is not None


@pytest.mark.exhaustive
@pytest.mark.timeout(0)
@pytest.mark.parametrize("cache", ["cold", "warm"])
def test_how_long_a_user_waits(
    cache: str, tmp_path: Path, start: Start, browse: Browse, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = os.environ.get("TEMPLATE_BEFORE", TEMPLATE)
    if cache == "cold":
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    render = ["run", "--project", template, "--only-group", "render", "cookiecutter", template]
    watch = Stopwatch()
    subprocess.run([find_uv(), *render, "--no-input", "--output-dir", tmp_path], check=True)
    watch.lap(f"cookiecutter, {cache}")
    project = Project(tmp_path / "my_project", "my_project", "myapp")
    running = start(project, *DEVELOPMENT)
    browser = browse(project.port)
    wait_until(up(browser, running), 600)
    watch.lap(f"honcho to the login page, {cache}")
    running.wait_for(READY)
    watch.lap("to the worker")
    browser.log_in_as_developer()
    watch = Stopwatch()
    browser.submit("/", "/imports/sample/")
    wait_until(lambda: "Done" in browser.get("/imports/"), 120)
    watch.lap("click to 100,000 contacts")
    (project.path / "jobs" / "upkeep.py").touch()
    wait_until(lambda: running.output.count(READY) == 2)
    watch.lap("a change of the code to the worker's restart")
    press_ctrl_c(running, project)
    watch.lap("Ctrl-C to the end")
    running = start(project, *DEVELOPMENT)
    wait_until(up(browser, running))
    watch.lap("honcho to the login page, again")
    running.wait_for(READY)
    watch.lap("to the worker")
    press_ctrl_c(running, project)
    watch = Stopwatch()
    print(project.run("pytest", "-q").stdout.splitlines()[-1])
    watch.lap("the project's own tests")
    stop(project)
