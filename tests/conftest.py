"""Renders, installs and runs the project: what the test modules share."""

import fcntl
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import psutil
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as MailHandler
from browser import Browser
from cookiecutter.main import cookiecutter
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import ConsoleMessage, Page, expect, sync_playwright
from screen import NewPage
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

TEMPLATE = Path(__file__).resolve().parent.parent

# Python and the Django that a resolver picks for it. Django 6 wants Python 3.12.
STACKS = {"3.11": "5.2", "3.13": "6."}

# The tests of each of these modules run in one process, or one for each stack, because they share
# a site or what makes one.
TOGETHER = ("tests/test_page.py", "tests/test_devdb.py")

# Variables that are removed because they would change what the rendered project does. Others stay:
# on some machines, uv needs variables for certificates.
SETTINGS = {
    "ALLOWED_HOSTS",
    "CSRF_TRUSTED_ORIGINS",
    "DATABASE_URL",
    "DEBUG",
    "DEFAULT_FROM_EMAIL",
    "EMAIL_URL",
    "METRICS_TOKEN",
    "PORT",
    "PROCFILE",
    "PYTHONDONTWRITEBYTECODE",  # makes each start take twice as long
    "PYTHONPATH",
    "SENTRY_DSN",
    "TRUSTED_PROXY",
    "UV_PROJECT_ENVIRONMENT",
    "VIRTUAL_ENV",
    "WEB_CONCURRENCY",
    "WORKER_DATABASE_URL",
}
PREFIXES = ("DJANGO_", "PG", "PROCRASTINATE_", "PYTEST_", "SECRET_KEY")

T = TypeVar("T")

# Everything takes longer when many tests run at once.
expect.set_options(timeout=30_000)

# A shell starts background commands with Ctrl-C ignored, and child processes inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def clean_environment() -> dict[str, str]:
    """Return this environment without the settings above and without the template's own venv."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in SETTINGS and not name.startswith(PREFIXES)
    }
    own = str(Path(sys.executable).parent)
    paths = environment["PATH"].split(os.pathsep)
    environment["PATH"] = os.pathsep.join(path for path in paths if path != own)
    environment["CI"] = "true"  # the development database does not wait for the disk
    return environment


def find_uv() -> str:
    """Return the uv that runs the tests, the one on PATH or the checkout's own."""
    candidates = [os.environ.get("UV"), shutil.which("uv"), *TEMPLATE.glob(".tools/uv-*/bin/uv")]
    uv = next(filter(None, candidates), None)
    assert uv, "no uv: start the tests with `make test`"
    return str(uv)


SERVER = "import pathlib, devdb.server; server = devdb.server.Server(pathlib.Path.cwd()); "


@dataclass
class Project:
    """A rendered project."""

    path: Path
    slug: str
    app: str
    env: dict[str, str] = field(default_factory=clean_environment, repr=False)

    def run(
        self, *command: str, check: object = True, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `uv run <command>` in the project and return it with its output."""
        # check is no bool: mypy would reject `**env` then, because its values are texts.
        done = subprocess.run(
            [find_uv(), "run", *command],
            check=False,
            cwd=self.path,
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert not check or done.returncode == 0, (
            f"{command} ended with {done.returncode}:\n{done.stdout}"
        )
        return done

    @property
    def port(self) -> int:
        """The port that the development server listens on."""
        return int(self.env.get("PORT", 8000))

    @functools.cached_property
    def database_url(self) -> str:
        """The address of its development database, even if that is not running."""
        return self.run("--quiet", "python", "-c", f"{SERVER}print(server.url)").stdout.strip()

    def processes(self) -> list[psutil.Process]:
        """Return all processes that run in the project's folder, except its database server."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.cwd() == str(self.path):
                    found.append(process)
            except psutil.Error:  # it has ended, or is another user's
                continue
        return found


def render(folder: Path, **answers: str) -> Project:
    """Render the template into the folder."""
    path = cookiecutter(str(TEMPLATE), no_input=True, extra_context=answers, output_dir=str(folder))
    return Project(Path(path), Path(path).name, answers.get("app_name", "myapp"))


def install(project: Project, python: str) -> Project:
    """Give the project a virtual environment of its own; skip, or fail in CI, if that fails."""
    if reason := sync(project, python):
        skip_or_fail(reason)
    return project


def sync(project: Project, python: str) -> str:
    """Run `uv sync`; return why it failed, or nothing."""
    project.env["UV_PYTHON"] = python
    done = subprocess.run(
        [find_uv(), "sync"],
        check=False,
        cwd=project.path,
        env=project.env,
        capture_output=True,
        text=True,
    )
    reason = done.stderr[done.stderr.find("error: ") :].splitlines()[:2]
    return f"uv sync with Python {python}: {' '.join(reason)}" if done.returncode else ""


def skip_or_fail(reason: str) -> NoReturn:
    """Skip the test; in CI, fail it."""
    (pytest.fail if "CI" in os.environ else pytest.skip)(reason)


@dataclass
class Stack:
    """What all projects on one Python share. It is made once, by the first test process.

    Args:
        folder: Where it is.
        python: The Python's version.
    """

    folder: Path
    python: str

    @property
    def venv(self) -> Path:
        return self.folder / "my_project" / ".venv"

    @property
    def lock(self) -> Path:
        return self.folder / "my_project" / "uv.lock"

    def prepare(self) -> None:
        """Render a project, install it and make its database; or skip the test."""
        with locked(self.folder / "prepared") as result:
            if not result.exists():
                shutil.rmtree(self.folder / "my_project", ignore_errors=True)
                project = render(self.folder)
                reason = sync(project, self.python)
                if not reason:
                    self.make_database(project)
                result.write_text(reason)
        if reason := result.read_text():
            skip_or_fail(reason)

    def make_database(self, project: Project) -> None:
        """Migrate a database, and keep its files."""
        code = "import sys, django; print('%d.%d' % sys.version_info[:2], django.__version__)"
        python, django = project.run("--quiet", "python", "-c", code).stdout.split()
        assert python == self.python
        assert django.startswith(STACKS[python])
        project.run("manage.py", "devdb", "up")
        project.run("manage.py", "devdb", "stop")
        home = project.run("--quiet", "python", "-c", f"{SERVER}print(server.home)").stdout
        shutil.move(home.strip(), self.folder / "database")

    def lend(self, project: Project) -> Project:
        """Let a project use the virtual environment."""
        if project.path != self.lock.parent:
            shutil.copy(self.lock, project.path)
        project.env |= {
            "UV_PYTHON": self.python,
            "UV_PROJECT_ENVIRONMENT": str(self.venv),
            # uv must not install a changed project's requirements for all the others.
            "UV_NO_SYNC": "1",
        }
        return project

    def start_database(self, project: Project) -> None:
        """Start a new database for the project: migrated, with the developer's account."""
        project.run("python", "-c", RESTORE, str(self.folder / "database"))

    def types_cache(self) -> Path:
        """Return a folder with mypy's cache of the packages."""
        with locked(self.folder / "types") as found:
            if not found.exists():
                project = Project(self.folder / "my_project", "my_project", "myapp")
                self.lend(project).run("mypy", ".")
                (project.path / ".mypy_cache").rename(found)
        return found


RESTORE = f"""
{SERVER}
import shutil, subprocess, sys
server.stop()
shutil.rmtree(server.home, ignore_errors=True)
server.home.mkdir(0o700)
# If root runs the tests, the programs are in there too: they are linked, not copied.
for path in pathlib.Path(sys.argv[1]).iterdir():
    subprocess.run(["cp", "-al" if path.name == "wheel" else "-a", path, server.home], check=True)
server.start()
"""


@contextmanager
def locked(path: Path) -> Iterator[Path]:
    """Lock a path: only one process at a time may check whether it exists, and make it."""
    path.parent.mkdir(exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield path


# A thousand ports for each process, below those that the system assigns by itself.
PORTS = count(20_000 + 1_000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]))


def free_port() -> int:
    """Return a port that nothing listens on, another one each time."""
    for port in PORTS:
        with socket.socket() as listener, suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            return port
    raise AssertionError("unreachable")


def choose_port(project: Project) -> None:
    """Let the project use a free port."""
    project.env["PORT"] = str(free_port())


def wait_until(condition: Callable[[], T], limit: float = 60, what: str = "") -> T:
    """Wait until a condition is true, and return its value; fail after the limit in seconds."""
    end = time.monotonic() + limit
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {limit} s: {what or condition}"
        time.sleep(0.2)  # not more often, because a condition may open a connection
    return value


@dataclass
class Running:
    """A command that runs in a session of its own and writes to a file."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, text: str, limit: float = 60) -> None:
        """Wait for a text in the output; fail at once when the command has ended without it."""
        wait_until(
            lambda: text in self.output or self.process.poll() is not None,
            limit,
            f"{text!r} in\n{self.output}",
        )
        assert text in self.output, f"ended with {self.process.returncode}:\n{self.output}"

    def interrupt(self, limit: float = 30) -> int:
        """Press Ctrl-C and return the exit status."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(limit)


Start = Callable[..., Running]
Browse = Callable[..., Browser]


@contextmanager
def browsing() -> Iterator[Browse]:
    """Open browsers, and close them at the end."""
    with ExitStack() as browsers:

        def open_browser(port: int, *, proxy: bool = False) -> Browser:
            browser = Browser(port, proxy=proxy)
            browsers.enter_context(browser.client)
            return browser

        yield open_browser


@contextmanager
def starting(folder: Path) -> Iterator[Start]:
    """Start commands with `uv run`, and end them, whatever happens."""
    started: list[tuple[Project, Running]] = []

    def start(project: Project, *command: str, **env: str) -> Running:
        log = folder / f"{len(started)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [find_uv(), "run", *command],
                cwd=project.path,
                # Tests wait for output, so it must not be buffered.
                env=project.env | {"PYTHONUNBUFFERED": "1"} | env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        running = Running(process, log)
        started.append((project, running))
        return running

    yield start
    for project, running in started:
        kill(project)
        running.process.wait()


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Spreads the tests over the processes, but keeps some modules together."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        if module not in TOGETHER:
            return nodeid
        return " ".join([module, *(python for python in STACKS if f"python{python}]" in nodeid)])


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    return Scheduling(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests that take long first, and the modules that run in one process."""
    items.sort(key=lambda item: (item.location[0] in TOGETHER, limit(item)), reverse=True)


def limit(item: pytest.Item) -> float:
    """Return the seconds that a test may take, or 0 if it has the usual limit."""
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0]) if marker else 0


@pytest.fixture(scope="session", autouse=True)
def cookiecutter_config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's own defaults out of the renders, and the renders out of the user's home."""
    folder = tmp_path_factory.mktemp("cookiecutter")
    config = folder / "config.yaml"
    config.write_text(f"replay_dir: {folder}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COOKIECUTTER_CONFIG", str(config))
        yield


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project as the default answers render it. Tests must not change it."""
    return render(tmp_path_factory.mktemp("p"))


# For tests that depend on Python or Django: all others run only on the first stack.
both_stacks = pytest.mark.parametrize(
    "stack",
    ["3.11", pytest.param("3.13", marks=pytest.mark.slow)],
    indirect=True,
    scope="session",
    ids=lambda python: f"python{python}",
)


@pytest.fixture(scope="session")
def stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, worker_id: str
) -> Stack:
    """What projects on one Python share."""
    folder = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        folder = folder.parent
    python = getattr(request, "param", next(iter(STACKS)))
    stack = Stack(folder / f"python{python}", python)
    stack.prepare()
    return stack


@pytest.fixture(scope="session")
def mypy_cache(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variable that gives mypy a cache of the packages."""
    cache = tmp_path_factory.mktemp("types") / "cache"
    shutil.copytree(stack.types_cache(), cache)
    return {"MYPY_CACHE_DIR": str(cache)}


@pytest.fixture(scope="session")
def installed(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project that can run. Tests must not change it."""
    project = stack.lend(render(tmp_path_factory.mktemp("p")))
    yield project
    stop(project)


@pytest.fixture
def editable(stack: Stack, tmp_path: Path) -> Iterator[Project]:
    """A project that the test may change. It shares the virtual environment."""
    project = stack.lend(render(tmp_path))
    yield project
    stop(project)


@pytest.fixture
def site(stack: Stack, installed: Project) -> Iterator[Project]:
    """The installed project on a free port, with a new database that is running."""
    choose_port(installed)
    stack.start_database(installed)
    yield installed
    (installed.path / ".env.production").unlink(missing_ok=True)


@pytest.fixture
def browse() -> Iterator[Browse]:
    """Open browsers, and close them at the end."""
    with browsing() as browse:
        yield browse


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start commands with `uv run`, and end them, whatever happens."""
    with starting(tmp_path) as start:
        yield start


class Mailbox(MailHandler):
    """Keeps the subjects of the e-mails that a mail server receives."""

    def __init__(self) -> None:
        super().__init__()
        self.subjects: list[str] = []

    def handle_message(self, message: object) -> None:
        self.subjects.append(message["Subject"])  # type: ignore[index]


@pytest.fixture
def mail_server() -> Iterator[Controller]:
    """A mail server on a free port."""
    server = Controller(Mailbox(), hostname="127.0.0.1", port=free_port())
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    """The system's Chromium."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if not program:
        skip_or_fail("no browser: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            # Root has no sandbox, and nothing here asks another host for anything.
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


@pytest.fixture
def new_page(chromium: Chromium, site: Project) -> Iterator[NewPage]:
    """Open pages of the site, each in its own session; an error in one fails the test."""
    pages: list[Page] = []
    errors: list[str] = []
    hosts: set[str] = set()

    def make(*expected_errors: int | str, **options: Any) -> Page:
        """Open a page; responses with these statuses or errors do not count as errors."""
        expected = [
            f"status of {error}" if isinstance(error, int) else error for error in expected_errors
        ]

        def listen(message: ConsoleMessage) -> None:
            # Chromium's own hints, for example on password managers, have the type debug.
            if message.type != "debug" and not any(text in message.text for text in expected):
                errors.append(message.text)

        page = chromium.new_page(
            viewport={"width": 900, "height": 560},
            base_url=f"http://127.0.0.1:{site.port}",
            **options,
        )
        pages.append(page)
        page.on("console", listen)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
        return page

    yield make
    # Pages are closed before the site ends; errors from here on do not count.
    errors_before, hosts_before = list(errors), set(hosts)
    for page in pages:
        page.close()
    assert not errors_before
    assert hosts_before <= {f"127.0.0.1:{site.port}"}


@pytest.fixture
def system_postgres() -> Iterator[str]:
    """The address of an empty database on a server of the system's PostgreSQL."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("the system has no PostgreSQL in /usr/lib/postgresql")
    with postgres_server(programs[-1]) as address:
        yield address


@contextmanager
def postgres_server(programs: Path) -> Iterator[str]:
    """Run a server with these programs, and yield the address of an empty database on it."""
    # PostgreSQL does not run as root.
    user: dict[str, Any] = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    if user:
        shutil.chown(folder, **user)
    port = free_port()

    def run(program: str, *arguments: object) -> None:
        command = [str(part) for part in (programs / program, *arguments)]
        subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL, **user)

    run("initdb", "-D", folder / "data", "-U", "site", "-A", "trust", "--locale=C.UTF-8")
    options = f"-p {port} -k {folder}"
    run("pg_ctl", "-D", folder / "data", "-l", folder / "log", "-w", "-o", options, "start")
    yield f"postgresql://site@127.0.0.1:{port}/postgres"
    run("pg_ctl", "-D", folder / "data", "-m", "immediate", "stop")
    shutil.rmtree(folder)


REMOVE_SERVER = f"""
{SERVER}
import shutil
server.stop()
for folder in (server.home, server.sockets):
    shutil.rmtree(folder, ignore_errors=True)
"""


def stop(project: Project) -> None:
    """Kill what runs in the project's folder, and remove its database server."""
    kill(project)
    project.run("python", "-c", REMOVE_SERVER)


def kill(project: Project) -> None:
    """Kill what runs in the project's folder."""
    # honcho gives each process a session of its own: killing the group would not reach them.
    while processes := project.processes():
        for process in processes:
            process.kill()
        psutil.wait_procs(processes)
