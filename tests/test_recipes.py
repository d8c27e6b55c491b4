"""What the rendered README says to do, done to the letter."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import (
    Browse,
    Project,
    Running,
    Stack,
    Start,
    both_stacks,
    find_uv,
    free_port,
    install,
    render,
    stop,
    wait_until,
)
from contacts_file import make_contacts_file

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# An app as a team has it, without any jobs.
CRM = {
    "__init__.py": "",
    "migrations/__init__.py": "",
    "models.py": """\
from django.db import models


class Customer(models.Model):
    welcomed = models.BooleanField(default=False)

    def __str__(self) -> str:
        return str(self.pk)
""",
    "services.py": """\
from .models import Customer


def welcome(*, customer_id: int) -> None:
    Customer.objects.filter(pk=customer_id).update(welcomed=True)
""",
}

pytestmark = [both_stacks, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def own(stack: Stack, tmp_path: Path, mypy_cache: dict[str, str]) -> Iterator[Project]:
    """A project with a virtual environment of its own, to be changed. Its database runs."""
    project = render(tmp_path)
    shutil.copy(stack.lock, project.path)
    install(project, stack.python)
    project.env |= mypy_cache
    stack.start_database(project)
    yield project
    stop(project)


def recipe(project: Project, heading: str) -> str:
    """Return the README's text under a heading."""
    readme = (project.path / "README.md").read_text()
    _, found, rest = readme.partition(f"\n### {heading}\n")
    assert found, f"the README has no heading {heading!r}"
    return re.split(r"^##+ ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def follow(project: Project, text: str) -> None:
    """Do what each block says, to the file that was last named before it."""
    for block in BLOCK.finditer(text):
        language, content = block.groups()
        if language == "console":
            run_commands(project, content)
            continue
        named = re.findall(r"`([\w/]+\.py)`", text[: block.start()])
        path = project.path / named[-1]
        if language == "diff":
            apply_diff(path, content)
        else:
            assert not path.exists()
            path.write_text(content)


def run_commands(project: Project, session: str) -> None:
    """Type what stands after each prompt."""
    path = f"{Path(find_uv()).parent}:{project.env['PATH']}"
    for command in re.findall(r"^\$ (.+)$", session, re.MULTILINE):
        done = subprocess.run(
            command,
            check=False,
            shell=True,
            cwd=project.path,
            env=project.env | {"PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"


def apply_diff(path: Path, diff: str) -> None:
    """Change a file as the hunks of a diff say; each fits in one place."""
    module = path.read_text()
    for hunk in re.split(r"^@@\n", diff, flags=re.MULTILINE):
        lines = hunk.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line[0] in " -")
        after = "".join(line[1:] for line in lines if line[0] in " +")
        assert module.count(before) == 1, before
        module = module.replace(before, after)
    path.write_text(module)


def shell(project: Project, code: str) -> str:
    return project.run("--quiet", "manage.py", "shell", "--verbosity=0", "-c", code).stdout


def run_worker(project: Project) -> None:
    """Let the worker do what waits."""
    worker = ("procrastinate", "--app=tasks.app", "worker", "--one-shot")
    project.run(*worker, PYTHONPATH=".", DJANGO_SETTINGS_MODULE="my_project.settings")


def lint(project: Project) -> None:
    project.run("ruff", "check")
    project.run("ruff", "format", "--check")
    project.run("mypy", ".")
    project.run("manage.py", "check", "--fail-level", "WARNING")


def test_an_app_that_a_team_has_gets_a_job(own: Project) -> None:
    for name, content in CRM.items():
        path = own.path / "crm" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    settings = own.path / "my_project/settings.py"
    settings.write_text(settings.read_text().replace('"users",\n', '"users",\n    "crm",\n'))
    own.run("manage.py", "makemigrations", "crm")
    own.run("manage.py", "migrate")
    shell(own, "from crm.models import Customer; Customer.objects.create(pk=1)")

    text = recipe(own, "Bring the pattern into an app you have")
    follow(own, text)
    lint(own)
    run_worker(own)
    welcomed = "from crm.models import Customer; print(Customer.objects.get().welcomed)"
    assert shell(own, welcomed).startswith("True\n")


def test_the_older_connector_runs_a_job(own: Project) -> None:
    follow(own, recipe(own, "The older connector (aiopg)"))
    own.run("manage.py", "startapp", "shop")
    lint(own)
    own.run("manage.py", "migrate")
    shell(own, "from shop import services; services.add_item(name='Tea')")
    connector = "from tasks import app; print(type(app.connector).__name__)"
    assert own.run("--quiet", "python", "-c", connector).stdout == "AiopgConnector\n"
    django = "from django.db.backends.postgresql.psycopg_any import is_psycopg3 as new"
    assert shell(own, f"{django}; print(new)") == "True\n"
    run_worker(own)
    finished = "from shop.models import Item; print(bool(Item.objects.get().finished_at))"
    assert shell(own, finished).startswith("True\n")


def spans(running: Running) -> dict[str, dict[str, Any]]:
    """Return the spans that a process has written to its output, by name."""
    decoder = json.JSONDecoder()
    output = running.output
    found = [
        decoder.raw_decode(output, start.start())[0]
        for start in re.finditer(r"^{$(?=.*?^}$)", output, re.MULTILINE | re.DOTALL)
    ]
    return {span["name"]: span for span in found}


def test_a_trace_leads_from_a_request_to_its_jobs(
    own: Project, start: Start, browse: Browse
) -> None:
    text = recipe(own, "Trace a request into its jobs")
    follow(own, text)
    lint(own)
    port = free_port()
    own.env |= {
        "DJANGO_SETTINGS_MODULE": "my_project.settings",
        "PYTHONPATH": ".",
        "PORT": str(port),
        "OTEL_TRACES_EXPORTER": "console",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    web, worker = (
        start(own, *command.split())
        for command in re.findall(r"^    (opentelemetry-.+)", text, re.MULTILINE)
    )
    browser = browse(port)
    wait_until(browser.is_up)
    browser.log_in_as_developer()
    browser.upload("people.csv", make_contacts_file(10).content)
    wait_until(lambda: "myapp.send_summary" in spans(worker))
    wait_until(lambda: "POST index" in spans(web))
    request = spans(web)["POST index"]
    first, second = (spans(worker)[f"myapp.{job}"] for job in ("import_contacts", "send_summary"))
    assert first["parent_id"] == request["context"]["span_id"]
    assert second["parent_id"] == first["context"]["span_id"]
    assert first["context"]["trace_id"] == request["context"]["trace_id"]
    assert second["context"]["trace_id"] == request["context"]["trace_id"]
