"""A Django project for each queue: installs it, migrates it, and runs its workers."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from .peers import REDIS_URL, Peer
from .servers import Postgres, flush, free_port

HERE = Path(__file__).parent
TEMPLATE = HERE.parent
SLUG = "my_project"
REMOVED_PREFIXES = (
    "BENCH_",
    "CI",
    "DATABASE_",
    "DEBUG",
    "DJANGO_",
    "PG",
    "PROCRASTINATE_",
    "PYTHON",
    "UV_PROJECT_ENVIRONMENT",
    "VIRTUAL_",
)


class Unavailable(Exception):
    """A queue cannot be measured here; the message says why, in one line."""


def uv(*arguments: object, cwd: Path = TEMPLATE) -> str:
    """Run uv and return its output."""
    return run([TEMPLATE / "scripts" / "uv", *arguments], cwd=cwd)


def run(command: list[Any], cwd: Path = TEMPLATE, env: dict[str, str] | None = None) -> str:
    """Run a command and return its output.

    Raises:
        Unavailable: It fails.
    """
    done = subprocess.run(
        [str(part) for part in command],
        check=False,
        cwd=cwd,
        env=env or clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise Unavailable(f"{command[0]} {command[1]}: {lines[-1].strip() if lines else 'failed'}")
    return done.stdout


def clean_environment() -> dict[str, str]:
    """Return this environment without variables that would change the measured projects."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(REMOVED_PREFIXES)
    }


def render(folder: Path) -> Path:
    """Render the template with its default answers, install it, and start its PostgreSQL afresh."""
    project = folder / SLUG
    for path in project.glob("*") if project.exists() else ():
        if path.name not in (".venv", ".devdb"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    cookiecutter = ("run", "--only-group", "render", "cookiecutter", TEMPLATE)
    options = ("--no-input", "--default-config", "--overwrite-if-exists", "--output-dir", folder)
    uv(*cookiecutter, *options)
    uv("sync", "--no-default-groups", "--group=devdb", f"--python={sys.executable}", cwd=project)
    shutil.copy(HERE / "site" / "load" / "queues" / "rendered_tasks.py", project / "tasks/load.py")
    with (project / "tasks" / "__init__.py").open("a") as module:
        module.write("\nfrom . import load\n")  # before the app opens its connections
    devdb(project, "reset", "--no-input")
    return project


def devdb(project: Path, *arguments: str) -> None:
    """Run the rendered project's command for its own PostgreSQL."""
    run([project / ".venv/bin/python", "manage.py", "devdb", *arguments], cwd=project)


def address(project: Path) -> str:
    """Return the address of the rendered project's own PostgreSQL."""
    return ask(project, "from devdb.server import address; print(address(Path.cwd()))")


def django_version(project: Path) -> str:
    """Return the version of Django in the rendered project, which the others get too."""
    return ask(project, "import django; print(django.__version__)")


def ask(project: Path, code: str) -> str:
    """Run code in the rendered project, and return what it prints."""
    command = [project / ".venv/bin/python", "-c", f"from pathlib import Path\n{code}"]
    return run(command, cwd=project).strip()


@dataclass
class Site:
    """An installed project with one queue, in one configuration."""

    peer: Peer
    project: Path
    folder: Path
    postgres: Postgres
    redis: str

    def __post_init__(self) -> None:
        self.rendered = self.peer.queue == "rendered"
        self.venv = self.project / ".venv" if self.rendered else self.folder / self.peer.queue
        self.environment = (self.peer.queue, self.peer.packages)
        self.template = f"template_{self.peer.queue}"
        self.marks = self.folder / "marks"
        self.log = self.folder / f"{self.peer.name}.log"
        self.port = free_port()

    def env(self, database: str = "bench") -> dict[str, str]:
        """Return the environment of the project's processes."""
        url = self.postgres.database(database)
        paths = [HERE / "site", *([self.project] if self.rendered else [])]
        return {
            **clean_environment(),
            "PATH": f"{self.venv / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "DJANGO_SETTINGS_MODULE": "rendered" if self.rendered else "plain",
            "DATABASE_URL": url,
            "OBAN_DSN": url,
            "PGDSN": url,
            "PGPUBSUB_USE_PSYCOPG_V3": "True",
            "BENCH_SLUG": SLUG,
            "BENCH_QUEUE": self.peer.queue,
            "BENCH_APPS": json.dumps(self.peer.apps),
            "BENCH_SETTINGS": json.dumps(self.peer.settings).replace(REDIS_URL, self.redis),
            "BENCH_MARKS": str(self.marks),
            "DEBUG": "off",
            "SECRET_KEY": "a key of fifty characters that nobody has to keep secret",
            "ALLOWED_HOSTS": "localhost",
            "EMAIL_URL": "console:",
            "PORT": str(self.port),
            "UVICORN_PORT": str(self.port),
            **self.peer.env,
        }

    def install(self, django: str) -> dict[str, str]:
        """Install it with a version of Django, and migrate it; return its packages' versions.

        Raises:
            Unavailable: It fails.
        """
        if self.peer.redis and not self.redis:
            raise Unavailable("there is no redis-server, and apt-get cannot install it")
        python = self.venv / "bin" / "python"
        if not self.rendered:
            uv("venv", "--quiet", "--allow-existing", f"--python={sys.executable}", self.venv)
        if self.peer.packages:
            packages = (f"django=={django}", "psycopg[binary]", *self.peer.packages)
            uv("pip", "install", "--quiet", f"--python={python}", *packages)
        self.postgres.create(self.template)
        env = self.env(self.template)
        run(["python", "-m", "django", "migrate"], self.folder, env)
        if self.peer.install:
            run(list(self.peer.install), self.folder, env)
        names = {"django", "procrastinate", "psycopg"}
        names |= {re.split(r"[\[=<]", package)[0] for package in self.peer.packages}
        frozen = uv("pip", "freeze", f"--python={python}").splitlines()
        return {
            name: version
            for name, _, version in (line.partition("==") for line in frozen)
            if name in names
        }

    def clear(self, template: str = "") -> None:
        """Begin with empty queues and no marks."""
        self.postgres.create("bench", template or self.template)
        if self.redis:
            flush(self.redis)
        self.marks.write_bytes(b"")

    def produce(self, action: str, job: str, number: int) -> Any:
        """Run `load`'s command `produce`, and return what it measured."""
        command = ["python", "-m", "django", "produce", action, job, number]
        return json.loads(run(command, self.folder, self.env()).splitlines()[-1])

    @contextmanager
    def workers(self) -> Iterator[list[int]]:
        """Run the workers, and yield their pids; kill them in the end."""
        with self.log.open("ab") as log:
            started = [
                subprocess.Popen(
                    self.peer.worker,
                    cwd=self.project if self.rendered else self.folder,
                    env=self.env(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                for _ in range(self.peer.processes)
            ]
        try:
            yield [worker.pid for worker in started]
        finally:
            for process in families([worker.pid for worker in started]):
                with suppress(psutil.NoSuchProcess):  # it ended when its parent was killed
                    process.kill()
            for worker in started:
                worker.wait()


def families(pids: list[int]) -> list[psutil.Process]:
    """Return those of the processes that still run, with their children."""
    found = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            found += [process, *process.children(recursive=True)]
    return found
