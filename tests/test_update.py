"""A project of the first layout gets today's files: its jobs run, and its data stays."""

import json
import shutil
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

import pytest
from conftest import TEMPLATE, Project, install, render, stop
from cookiecutter.main import cookiecutter

# The last commit before jobs/ and devdb/ became folders that an update replaces.
BEFORE = "24ba54eb6e6cc060228a314608abe4ed63cac7c4"
KEPT = {".env", ".venv", ".devdb", "uv.lock"}

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


def template_of(commit: str, folder: Path) -> Path:
    """Unpack the template as it was; skip where the checkout has no history."""
    archive = ["git", "archive", "--format=tar", commit]
    done = subprocess.run(archive, check=False, cwd=TEMPLATE, capture_output=True)
    if done.returncode:
        pytest.skip(f"this checkout does not go back to {commit[:7]}")
    with tarfile.open(fileobj=BytesIO(done.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_project_of_the_first_layout_is_updated(tmp_path: Path) -> None:
    template = template_of(BEFORE, tmp_path / "template")
    path = cookiecutter(str(template), no_input=True, output_dir=str(tmp_path / "p"))
    project = install(Project(Path(path), "my_project", "myapp"), "3.11")
    try:
        project.run("manage.py", "devdb", "up")
        urls = static_urls(project)
        shell(project, FILL)

        for entry in project.path.iterdir():
            if entry.name not in KEPT:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        today = render(tmp_path / "today").path
        shutil.copytree(today, project.path, dirs_exist_ok=True)
        project.run("manage.py", "devdb", "up")
        project.run("manage.py", "check", "--database=default", "--fail-level=WARNING")
        # One at a time: the import defers one more, for the summary.
        worker = ("procrastinate", "--app=tasks.app", "worker", "--one-shot", "-c1")
        project.run(*worker, PYTHONPATH=".")

        found = json.loads(shell(project, LOOK))
        assert found["users"] == ["dev"]
        assert found["imports"] == ["done"]
        assert found["contacts"] == ["ann@example.com"]
        assert {name for name, _ in found["jobs"]} >= NAMES
        assert {status for _, status in found["jobs"]} == {"succeeded"}
        assert static_urls(project) >= urls
    finally:
        stop(project)
