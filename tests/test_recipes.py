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
from site_at_work import DEPLOYED

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


# Asks for a page as a user who is logged in.
CLIENT = """
import re
from django.core import mail
from django.test import Client
from django.test.utils import setup_test_environment
from users.models import User
setup_test_environment()
client = Client(headers={"Host": "localhost"})
client.force_login(User.objects.get(username="dev"))
"""


@pytest.mark.exhaustive
def test_users_sign_up_and_have_second_factors(own: Project) -> None:
    follow(own, section(own, RECIPES, "Sign-up, social login, second factors"))
    lint(own)
    sign_up = """
ann = Client(headers={"Host": "localhost"})
words = {"password1": "correct horse", "password2": "correct horse"}
ann.post("/accounts/signup/", {"username": "ann", "email": "ann@example.com"} | words)
link = re.search(r"http://[^/]+(/accounts/confirm-email/\\S+)", mail.outbox[0].body)[1]
ann.post(link)
print(User.objects.get(username="ann").emailaddress_set.get().verified)
print(ann.post("/accounts/github/login/").headers["Location"])
ann.force_login(User.objects.get(username="ann"))
for page in ("2fa/", "3rdparty/", "email/"):
    print(ann.get(f"/accounts/{page}").status_code)
print("Security Keys" in ann.get("/accounts/2fa/").content.decode())
"""
    verified, github, *rest = shell(own, CLIENT + sign_up).splitlines()[-6:]
    assert verified == "True"
    assert github.startswith("https://github.com/login/oauth/authorize?")
    assert rest == ["200", "200", "200", "True"]


@pytest.mark.exhaustive
def test_an_api_defers_a_job_and_answers_with_its_state(own: Project) -> None:
    own.run("manage.py", "startapp", "shop")
    own.run("manage.py", "migrate")
    follow(own, section(own, RECIPES, "A JSON API"))
    lint(own)
    add = """
anonymous = Client(headers={"Host": "localhost"}).get("/api/jobs/1")
added = client.post("/api/items", {"name": "Tea"}, content_type="application/json")
print(anonymous.status_code, added.status_code, added.json()["job_id"])
"""
    anonymous, added, job_id = shell(own, CLIENT + add).splitlines()[-1].split()
    assert (anonymous, added) == ("302", "202")
    ask = f"print(client.get('/api/jobs/{job_id}').json()['status'])"
    assert shell(own, CLIENT + ask).endswith("todo\n")
    run_worker(own)
    assert shell(own, CLIENT + ask).endswith("succeeded\n")


@pytest.mark.exhaustive
def test_files_are_kept_on_object_storage(own: Project) -> None:
    follow(own, section(own, RECIPES, "Files on object storage"))
    lint(own)
    save = """
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
print(default_storage.path(default_storage.save("a.txt", ContentFile(b"Tea"))))
"""
    path = Path(shell(own, save).strip())
    assert path == own.path / "media" / "a.txt"
    assert path.read_text() == "Tea"
    which = """
from django.core.files.storage import storages
print(type(storages["default"]).__name__, storages["default"].bucket_name)
"""
    production = DEPLOYED | {"DATABASE_URL": "postgresql://localhost/none"}
    command = ("--quiet", "manage.py", "shell", "--verbosity=0", "-c", which)
    missing = own.run(*command, check=False, **production)
    assert "BUCKET" in missing.stdout
    found = own.run(*command, **production, BUCKET="files")
    assert found.stdout == "S3Storage files\n"


@pytest.mark.exhaustive
def test_the_debug_toolbar_is_on_the_pages(own: Project) -> None:
    follow(own, section(own, RECIPES, "The debug toolbar"))
    lint(own)
    look = """
page = client.get("/").content.decode()
print("djDebug" in page, "TasksPanel" in page, "SQLPanel" in page)
"""
    debug = "from django.conf import settings; settings.DEBUG = True"
    assert shell(own, f"{CLIENT}{debug}{look}").endswith("True True True\n")


@pytest.mark.exhaustive
def test_sentry_gets_errors_and_timings(own: Project) -> None:
    follow(own, section(own, RECIPES, "Errors and timings in Sentry"))
    lint(own)
    look = "import sentry_sdk; print(sentry_sdk.get_client().options['traces_sample_rate'])"
    command = ("--quiet", "--extra", "sentry", "manage.py", "shell", "--verbosity=0", "-c", look)
    assert own.run(*command, SENTRY_DSN="http://key@127.0.0.1:1/1").stdout == "0.1\n"
