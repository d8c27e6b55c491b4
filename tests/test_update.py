"""Projects of earlier versions take over today's files, as docs/upgrade.md says."""

import json
import re
import shutil
import subprocess
import tarfile
import tomllib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from conftest import TEMPLATE, Project, Stack, install, render, stop
from cookiecutter.main import cookiecutter
from documents import commands, run, section, sections, sort_imports

# The last commit before versions had numbers, and before jobs/ and devdb/ became folders that an
# update replaces.
BEFORE = "24ba54eb6e6cc060228a314608abe4ed63cac7c4"
# The first commit of main that cruft may update from, before versions had tags.
LANDED = "a2fcedfad67ac1aaf213223647049a2f559dd385"
UPGRADE = "docs/upgrade.md"
TEMPLATE_URL = "https://github.com/ORG/REPO"
PARTS = ("NAME", "EMAIL")
IDENTITY = ("-c", "user.name=Ann", "-c", "user.email=ann@example.com")

# How the README of the first layout removed the sample, without its tables.
REMOVE = """\
rm -r myapp tasks/myapp.py
rm tests/test_contacts_csv.py tests/test_services.py tests/test_views.py tests/test_worker.py
sed -i.old '/"myapp[".]/d' my_project/settings.py my_project/urls.py
rm my_project/*.old
"""

# The line that CHANGELOG.md adds to .cruft.json for projects of before 0.1.0.
SKIP = """sed -i 's/^{/{ "skip": [".env"],/' .cruft.json"""

FILL = """
from io import BytesIO
from django.utils import timezone
from myapp import services
from procrastinate.contrib.django import app
from users.models import User
dev = User.objects.get(username="dev")
file = BytesIO(b"email,name\\nann@example.com,Ann\\n")
services.start_import(owner=dev, filename="people.csv", file=file)
for name in ("rescue_stalled_jobs", "watch", "prune"):
    lock = f"maintenance.{name}"
    app.configure_task(lock, queueing_lock=lock).defer(timestamp=0)
"""

LOOK = """
import json
from jobs.models import QueuedJob
from myapp.models import Contact, ContactImport
from users.models import User
print(json.dumps({
    "users": list(User.objects.values_list("username", flat=True)),
    "imports": [one.state for one in ContactImport.objects.all()],
    "contacts": list(Contact.objects.values_list("email", flat=True)),
    "jobs": sorted(QueuedJob.objects.values_list("task_name", "status")),
}))
"""

NAMES = {"maintenance.prune", "maintenance.rescue_stalled_jobs", "maintenance.watch"}


def shell(project: Project, code: str) -> str:
    return project.run("--quiet", "manage.py", "shell", "--verbosity=0", "-c", code).stdout


def static_urls(project: Project) -> set[str]:
    """Return the URLs that `collectstatic` gives, without the digests of the contents."""
    production = {
        "DEBUG": "off",
        "SECRET_KEY": "x" * 50,
        "ALLOWED_HOSTS": "www.example.com",
        "DATABASE_URL": "postgresql://localhost/none",
        "EMAIL_URL": "smtp://localhost",
    }
    project.run("manage.py", "collectstatic", "--no-input", **production)
    manifest = project.path / "staticfiles" / "staticfiles.json"
    return {*json.loads(manifest.read_text())["paths"]}


def git(folder: Path, *command: str) -> str:
    return subprocess.check_output(["git", *command], cwd=folder, text=True)


def files(folder: Path) -> dict[str, bytes]:
    """Return what git would commit, by relative path."""
    listed = git(folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    paths = {path: folder / path for path in listed.split("\0") if path}
    return {name: path.read_bytes() for name, path in paths.items() if path.is_file()}


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """A clone of the template whose last commit holds the files of this checkout."""
    clone = tmp_path / "template"
    git(TEMPLATE, "clone", "--quiet", str(TEMPLATE), str(clone))
    git(clone, "rm", "--quiet", "-r", ".")
    for name, content in files(TEMPLATE).items():
        path = clone / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        shutil.copymode(TEMPLATE / name, path)
    git(clone, "add", "--all")
    git(clone, *IDENTITY, "commit", "--quiet", "--allow-empty", "--message=Now")
    return clone


@pytest.fixture(
    params=[BEFORE, pytest.param(LANDED, marks=pytest.mark.exhaustive), "tag"],
    ids=["first", "landed", "tag"],
)
def version(request: pytest.FixtureRequest) -> str:
    """The commit or tag that a project was rendered from."""
    found = subprocess.run(
        ["git", "describe", "--tags", "--abbrev=0"]
        if request.param == "tag"
        else ["git", "rev-parse", "--verify", f"{request.param}^{{commit}}"],
        check=False,
        cwd=TEMPLATE,
        capture_output=True,
        text=True,
    )
    if found.returncode:
        pytest.skip(f"this checkout has no {request.param[:7]}")
    return found.stdout.strip()


@pytest.fixture
def old(template: Path, version: str, tmp_path: Path) -> Iterator[Project]:
    """A project of that version, committed to git."""
    folder = tmp_path / "version"
    with tarfile.open(fileobj=BytesIO(archive(template, version))) as tar:
        tar.extractall(folder, filter="data")
    path = cookiecutter(str(folder), no_input=True, output_dir=str(tmp_path / "p"))
    project = Project(Path(path), "my_project", "myapp")
    roles = ("AUTHOR", "COMMITTER")
    project.env |= {f"GIT_{role}_{part}": "ann@example.com" for role in roles for part in PARTS}
    git(project.path, "init", "--quiet")
    commit(project)
    yield project
    stop(project)


def archive(template: Path, version: str) -> bytes:
    command = ["git", "archive", "--format=tar", version]
    return subprocess.check_output(command, cwd=template)


def rendered(folder: Path) -> Path:
    """Render today's template into a git repository."""
    path = render(folder / "today").path
    git(path, "init", "--quiet")
    return path


def commit(project: Project) -> None:
    run(project, "git add --all; git commit --quiet --message=Mine")


def update(project: Project, today: Project, template: Path, version: str) -> set[str]:
    """Do what docs/upgrade.md says; return the files that have conflicts."""
    link, *rest = commands(section(today, UPGRADE, "Link the project, once"))
    assert TEMPLATE_URL in link
    link = re.sub(
        "--checkout .+", f"--checkout {version}", link.replace(TEMPLATE_URL, f"{template}")
    )
    run(project, "\n".join([f"yes '' | {link}", SKIP, *rest]))
    run(project, "\n".join(commands(section(today, UPGRADE, "Update"))))
    assert not [*project.path.rglob("*.rej")]
    return {*git(project.path, "diff", "--name-only", "--diff-filter=U").split()}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_an_untouched_project_becomes_todays(
    old: Project, project: Project, template: Path, version: str, tmp_path: Path
) -> None:
    install(old, "3.11")
    commit(old)  # uv.lock
    old.run("manage.py", "devdb", "up")
    urls = static_urls(old)
    shell(old, FILL)

    assert not update(old, project, template, version)
    found = files(old.path)
    del found[".cruft.json"], found["uv.lock"]
    assert found == files(rendered(tmp_path))

    run(old, "\n".join(commands(section(project, UPGRADE, "Look at the result"))))
    old.run("manage.py", "check", "--database=default", "--fail-level=WARNING")
    # One at a time: the import defers one more, for the summary.
    worker = ("procrastinate", "--app=tasks.app", "worker", "--one-shot", "-c1")
    old.run(*worker, PYTHONPATH=".")
    data = json.loads(shell(old, LOOK))
    assert data["users"] == ["dev"]
    assert data["imports"] == ["done"]
    assert data["contacts"] == ["ann@example.com"]
    assert {name for name, _ in data["jobs"]} >= NAMES
    assert {status for _, status in data["jobs"]} == {"succeeded"}
    # live.js in jobs/ replaced it.
    assert static_urls(old) >= urls - {"contacts/poll.js"}


def remove_sample(folder: Path) -> None:
    """Remove the files of the sample, as the project's own docs say."""
    jobs = folder / "docs" / "jobs.md"
    if jobs.exists():
        steps = commands(sections(jobs.read_text())["Remove the sample"])
        script = "\n".join(step for step in steps if step.startswith(("rm", "sed")))
    else:
        script = REMOVE
    subprocess.run(["sh", "-ec", script], cwd=folder, check=True)


@pytest.mark.slow
def test_a_project_without_the_sample_stays_without_it(
    old: Project, project: Project, template: Path, version: str, tmp_path: Path
) -> None:
    remove_sample(old.path)
    commit(old)
    if conflicts := update(old, project, template, version):
        # A line that the removal deletes has changed in the template.
        assert conflicts == {"README.md"}
        run(old, "git checkout --theirs README.md")
    run(old, again(project))
    today = rendered(tmp_path)
    remove_sample(today)  # test_sample.py shows that what is left is green
    found = files(old.path)
    del found[".cruft.json"]
    assert found == files(today)


def again(project: Project) -> str:
    """Return the lines of *Remove the sample* that an update makes necessary once more."""
    steps = commands(section(project, "docs/jobs.md", "Remove the sample"))
    return "\n".join(step for step in steps if "sed" in step or ".old" in step)


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
def test_a_changed_project_keeps_its_changes(
    old: Project,
    project: Project,
    template: Path,
    version: str,
    stack: Stack,
    mypy_cache: dict[str, str],
) -> None:
    """Settings, the user's model and README are changed, and there is one more app."""
    install(old, stack.python)
    edit(old, "my_project/settings.py", 'TIME_ZONE = "UTC"', 'TIME_ZONE = "Europe/Berlin"')
    field = "\n\n    phone = models.CharField(max_length=20, blank=True)\n"
    add_field = 'add yours here."""\n', f'add yours here."""{field}'
    edit(old, "users/models.py", *add_field)
    if version == BEFORE:
        edit(old, "users/models.py", "\n\n\nclass", "\nfrom django.db import models\n\n\nclass")
    edit(old, "README.md", "# My Project\n", "# The shop\n\nIt sells tea.\n")
    old.run("manage.py", "startapp", "shop")
    old.run("manage.py", "makemigrations", "users")
    old.run("manage.py", "devdb", "up")
    commit(old)

    conflicts = update(old, project, template, version)
    assert conflicts <= {"README.md", "my_project/settings.py", "users/models.py"}
    for name in conflicts:
        path = old.path / name
        path.write_text(re.sub(CONFLICT, r"\1", path.read_text(), flags=re.DOTALL))
    if "users/models.py" in conflicts:  # both sides are needed
        shutil.copy(project.path / "users" / "models.py", old.path / "users" / "models.py")
        edit(old, "users/models.py", *add_field)
    changed = files(old.path)
    assert b"Europe/Berlin" in changed["my_project/settings.py"]
    assert b"phone" in changed["users/models.py"]
    assert b"It sells tea." in changed["README.md"]
    if version == BEFORE:
        follow_changelog(old)

    stack.lend(old).env.update(mypy_cache)
    run(old, "\n".join(commands(section(project, UPGRADE, "Look at the result"))))
    run(old, "\n".join(commands(section(project, "README.md", "Test"))))


# What the project has, and what the template has.
CONFLICT = "<<<<<<< ours\n(.*?)=======\n.*?>>>>>>> theirs\n"


def follow_changelog(project: Project) -> None:
    """Change the project's own app as the heading 0.1.0 says."""
    tests = project.path / "shop" / "tests"
    tests.mkdir()
    (tests / "__init__.py").touch()
    (project.path / "tests" / "test_shop.py").rename(tests / "test_shop.py")
    edit(project, "shop/tests/test_shop.py", "from .kit import", "from jobs.testing import")
    edit(project, "pyproject.toml", '"myapp",\n', '"myapp",\n    "shop",\n')
    sort_imports(project)


def edit(project: Project, name: str, old: str, new: str) -> None:
    """Replace a text in one of the project's files."""
    path = project.path / name
    assert path.read_text().count(old) == 1
    path.write_text(path.read_text().replace(old, new))


def test_no_migration_that_landed_is_changed_renamed_or_removed() -> None:
    """An update would delete a migration that has been applied."""
    look = ["--name-status", "--no-renames", "--diff-filter=DM"]
    versions = [["diff", *look, commit] for commit in (BEFORE, LANDED, "HEAD")]
    found = [
        subprocess.run(
            ["git", *command, "--", "*/migrations/0*.py"],
            check=False,
            cwd=TEMPLATE,
            capture_output=True,
            text=True,
        )
        for command in (["log", *look, "--format=", f"{BEFORE}..HEAD"], *versions)
    ]
    if any(done.returncode for done in found):
        pytest.skip("this checkout has no history")
    assert not "".join(done.stdout for done in found), "add a new migration instead"


def test_the_version_is_the_newest_in_the_changelog() -> None:
    version = json.loads((TEMPLATE / "cookiecutter.json").read_text())["_version"]
    headings = re.findall("^## (.+)$", (TEMPLATE / "CHANGELOG.md").read_text(), re.MULTILINE)
    own = tomllib.loads((TEMPLATE / "pyproject.toml").read_text())["project"]["version"]
    assert version == headings[0] == own
    since = ["git", "diff", "--quiet", f"refs/tags/{version}", "--", "CHANGELOG.md"]
    done = subprocess.run(since, check=False, cwd=TEMPLATE, stderr=subprocess.DEVNULL)
    # 128: it has no tag yet.
    assert done.returncode in {0, 128}, f"{version} has its tag: open a new heading"
