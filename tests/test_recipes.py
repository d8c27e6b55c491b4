"""The recipes that install packages, followed to the letter."""

import json
import re
import shutil
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
    free_port,
    install,
    render,
    stop,
    wait_until,
)
from contacts_file import make_contacts_file
from documents import (
    add_code,
    apply_diff,
    blocks,
    environment_path,
    follow,
    lint,
    run,
    run_worker,
    section,
    shell,
)

RECIPES = "docs/recipes.md"

pytestmark = [both_stacks, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def own(stack: Stack, tmp_path: Path, mypy_cache: dict[str, str]) -> Iterator[Project]:
    """A project to change, with its own virtual environment and a running database."""
    project = render(tmp_path)
    shutil.copy(stack.lock, project.path)
    install(project, stack.python)
    project.env |= mypy_cache
    stack.start_database(project)
    yield project
    stop(project)


def test_the_older_connector_runs_a_job(own: Project) -> None:
    follow(own, section(own, RECIPES, "Use psycopg 2 in the worker"))
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
    assert shell(own, finished) == "True\n"


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
    text = section(own, RECIPES, "Trace a request into its jobs")
    add, web_command, worker_command = blocks(text, "sh")
    run(own, add.content)
    for block in blocks(text):
        if block.language == "python":
            add_code(own.path / block.file, block.content)
        elif block.language == "diff":
            apply_diff(own.path / block.file, block.content)
    lint(own)
    port = free_port()
    own.env |= environment_path(own) | {
        "PORT": str(port),
        "OTEL_TRACES_EXPORTER": "console",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    web, worker = (
        start(own, "sh", "-c", command.content) for command in (web_command, worker_command)
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
