"""The rendered project's README and docs, followed to the letter."""

import re
import socket
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from conftest import TEMPLATE, Project, Stack, Start, free_port, wait_until
from documents import (
    add_code,
    blocks,
    commands,
    follow,
    lint,
    run,
    run_worker,
    section,
    sections,
    shell,
    sort_imports,
)
from site_at_work import DEVELOPMENT

JOBS, DEPLOY = "docs/jobs.md", "docs/deploy.md"

# An app that a team already has, without jobs.
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


@pytest.fixture
def copy(editable: Project, stack: Stack, mypy_cache: dict[str, str]) -> Project:
    """A project that the test may change, with a running database."""
    editable.env |= mypy_cache
    stack.start_database(editable)
    return editable


@pytest.fixture
def shop(copy: Project) -> Project:
    """A project with the app of the docs' examples."""
    copy.run("manage.py", "startapp", "shop")
    copy.run("manage.py", "migrate")
    return copy


def documents(project: Project) -> dict[str, str]:
    """Return the project's documents by their paths."""
    paths = [*project.path.glob("*.md"), *project.path.glob("*/*.md")]
    return {path.relative_to(project.path).as_posix(): path.read_text() for path in paths}


def anchors(text: str) -> list[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    return [re.sub(r"[^\w -]", "", name).lower().replace(" ", "-") for name in sections(text)]


def test_links_lead_somewhere(project: Project) -> None:
    links = [
        (document, target)
        for document, text in documents(project).items()
        for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text)
    ]
    assert len(links) > 20
    for document, target in links:
        parts = urlsplit(target)
        path = project.path / Path(document).parent / parts.path if parts.path else None
        text = (path or project.path / document).read_text()
        assert not parts.fragment or parts.fragment in anchors(text), f"{document}: {target}"


def test_each_document_begins_with_its_contents(project: Project) -> None:
    found = [text for path, text in documents(project).items() if path.startswith("docs/")]
    assert found
    for text in found:
        _, *headings = anchors(text)
        assert re.findall(r"^- \[.+\]\(#(.+)\)$", text, re.MULTILINE) == headings


def test_every_section_with_code_is_followed_by_a_test(project: Project) -> None:
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    followed = set()
    for document, text in documents(project).items():
        _, *headings = sections(text)
        for heading in headings:
            if {block.language for block in blocks(sections(text)[heading])} - {"text"}:
                assert f'"{heading}"' in tests, f"{document}: {heading}"
                followed.add(heading)
    assert len(followed) > 15


def test_the_first_command_is_the_one_that_other_tests_run(project: Project) -> None:
    (command,) = commands(section(project, "README.md", "Start"))
    assert command.split() == ["uv", "run", *DEVELOPMENT]


def test_the_templates_readme_shows_code_that_other_tests_run(project: Project) -> None:
    (example,) = blocks((TEMPLATE / "README.md").read_text(), "python")
    chapters = [("README.md", "Add a job"), (JOBS, "Test a job")]
    followed = [block.content for one in chapters for block in blocks(section(project, *one))]
    parts = [part.partition("\n")[2].strip() for part in example.content.split("\n\n\n")]
    assert len(parts) == 4
    for part in parts:
        assert any(part in code for code in followed), part


def test_a_job_is_added_as_the_readme_says(copy: Project) -> None:
    text = section(copy, "README.md", "Add a job")
    (start,) = re.findall(r"`(uv run .+? startapp shop)`", text)
    run(copy, start)
    follow(copy, text)
    sort_imports(copy)
    test = commands(section(copy, "README.md", "Test"))
    # test_boot.py runs all tests in a clone, with the command as printed.
    test[test.index("uv run pytest -n auto")] += " shop"
    for command in test:
        run(copy, command)
    copy.run("manage.py", "migrate")
    shell(copy, "from shop import services; services.publish_item(name='Tea')")
    assert "Subject: New in the shop" in run_worker(copy)


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_the_chapters_on_a_job(copy: Project) -> None:
    follow(copy, section(copy, JOBS, "Add an app"))
    assert re.search(r"Job shop\.finish_item\[\d+\] ended with status: Success", run_worker(copy))

    write = section(copy, JOBS, "Write a job")
    follow(copy, section(copy, JOBS, "Test a job"))
    for block in blocks(write, "python"):
        add_code(copy.path / block.file, block.content)
    sort_imports(copy)
    for command in commands(write):
        run(copy, command)
    copy.run("pytest", "shop")

    # A job that waits under the old name is done under the new one.
    shell(copy, "from shop import tasks; tasks.announce_item.defer(item_id=0)")
    change = section(copy, JOBS, "Change or remove a job")
    (new,) = blocks(change, "python")
    old = next(blocks(write, "python"))
    assert new.file == old.file == "shop/tasks.py"
    replace(copy, new.file, re.escape(old.content), new.content)
    replace(copy, "shop/services.py", r"tasks\.announce_item\b", "tasks.advertise_item")
    replace(copy, "shop/tests/test_announce.py", r"tasks\.announce_item\b", "tasks.advertise_item")
    replace(copy, "tasks/shop.py", r"(bridge\.|def )announce_item\b", r"\1advertise_item")
    lint(copy)
    copy.run("pytest", "shop")
    (check,) = commands(change)
    assert "no issues" in run(copy, check)
    done = run_worker(copy)
    assert re.search(r"Job shop\.announce_item\[\d+\] ended with status: Error", done)
    assert "Item matching query does not exist" in done

    # The check names jobs whose arguments no longer fit, and jobs without a task.
    old_call = """
from procrastinate.contrib.django import app
app.configure_task("shop.finish_item").defer(item=0)
"""
    shell(copy, old_call)
    named = run(copy, check)
    assert "shop.finish_item" in named
    assert "jobs.W006" in named
    assert "TypeError" in run_worker(copy)
    shell(copy, "from shop import tasks; tasks.advertise_item.defer(item_id=0)")
    replace(copy, new.file, re.escape(new.content), "")
    replace(copy, "tasks/shop.py", r"@bridge\.advertise_item(.|\n)+?\n(?=\n|\Z)", "")
    named = run(copy, check)
    assert "shop.advertise_item" in named
    assert "jobs.W003" in named
    assert "TaskNotFound" in run_worker(copy)
    assert "no issues" in run(copy, check)


def replace(project: Project, file: str, pattern: str, by: str) -> None:
    path = project.path / file
    changed, times = re.subn(pattern, by, path.read_text())
    assert times, pattern
    path.write_text(changed)


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_the_chapters_on_more_kinds_of_jobs(shop: Project) -> None:
    chapters = (
        *("Retries", "Exactly once", "Time limits", "Periodic jobs", "Async jobs"),
        "Progress and results",
    )
    for heading in chapters:
        follow(shop, section(shop, JOBS, heading))
    sort_imports(shop)
    shop.run("manage.py", "makemigrations")
    shop.run("manage.py", "migrate")
    lint(shop)

    # Cron lines are in UTC, whatever the settings say, or in their own time zone.
    replace(shop, f"{shop.slug}/settings.py", 'TIME_ZONE = "UTC"', 'TIME_ZONE = "Asia/Tokyo"')
    ticks = """
from datetime import UTC, datetime
from jobs import upstream
from jobs.worker import find_app
app = find_app()
app.perform_import_paths()
clocks = {one.task.name: one.croniter for one in upstream.periodic_tasks(app).values()}
def ticks(name, month, day):
    at = datetime(2026, month, day, tzinfo=UTC).timestamp()
    for _ in range(2):
        at = clocks[name].get_next(float, start_time=at)
        print(f"{datetime.fromtimestamp(at, UTC):%d %H:%M}", end=" ")
ticks("maintenance.prune", 3, 29)
ticks("shop.remove_old_items", 3, 29)
ticks("shop.remove_old_items", 10, 25)
"""
    utc, gap, twice = "29 03:30 30 03:30", "29 01:00 30 00:30", "25 00:30 25 01:30"
    assert shell(shop, ticks).strip() == f"{utc} {gap} {twice}"

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        shell(
            shop,
            f"""
from datetime import timedelta
from shop import services, tasks
from shop.models import Item, Stock
item = Item.objects.create(name="Tea")
tasks.ask_supplier.defer(item_id=item.pk, host="127.0.0.1", port={port})
tasks.order_item.defer(item_id=item.pk)
report = services.start_report()
assert services.report_state(report) == "todo"
cancelled = services.start_report()
services.cancel_report(cancelled)
assert services.report_state(cancelled) == "cancelled"
Stock.objects.create(item=item, left=1)
tasks.restock_item.defer(item_id=item.pk, number=2)
tasks.pack_item.configure(lock="one", schedule_in=timedelta(hours=1)).defer(item_id=item.pk)
tasks.pack_item.configure(lock="one").defer(item_id=item.pk)
tasks.pack_item.configure(lock="two").defer(item_id=item.pk)
""",
        )
        done = run_worker(shop)
    assert re.search(r"Job shop\.order_item\[\d+\] ended with status: Error, to retry", done)
    state = """
from jobs.models import QueuedJob
from shop import services
from shop.models import Item, Report, Stock
print(Item.objects.get().finished_at is not None, Stock.objects.get().left, end=" ")
packing = QueuedJob.objects.filter(task_name="shop.pack_item").order_by("pk")
print(*packing.values_list("status", flat=True), end=" ")
for report in Report.objects.order_by("pk"):
    print(services.report_state(report), report.done, report.total, report.text, end=" ")
"""
    # A job for later holds up the next one of its lock, and no other.
    packed = "todo todo succeeded"
    assert shell(shop, state).strip() == f"True 3 {packed} finished 1 1 Tea cancelled 0 1"


@pytest.mark.slow
def test_an_app_that_a_team_has_gets_a_job(copy: Project) -> None:
    for name, content in CRM.items():
        path = copy.path / "crm" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    replace(copy, f"{copy.slug}/settings.py", '"users",\n', '"users",\n    "crm",\n')
    copy.run("manage.py", "makemigrations", "crm")
    copy.run("manage.py", "migrate")
    shell(copy, "from crm.models import Customer; Customer.objects.create(pk=1)")
    replace(copy, "pyproject.toml", r'    "users",\n', '    "users",\n    "crm",\n')
    follow(copy, section(copy, JOBS, "Bring jobs into an app you have"))
    lint(copy)
    run_worker(copy)
    welcomed = "from crm.models import Customer; print(Customer.objects.get().welcomed)"
    assert shell(copy, welcomed) == "True\n"


@pytest.mark.slow
def test_the_admin_shows_a_new_field_of_the_user(copy: Project) -> None:
    follow(copy, section(copy, JOBS, "Add a field to the user"))
    lint(copy)
    page = """
from django.test import Client
from users.models import User
client = Client(headers={"Host": "localhost"})
dev = User.objects.get(username="dev")
client.force_login(dev)
print(client.get(f"/admin/users/user/{dev.pk}/change/").content.decode())
"""
    assert 'name="phone"' in shell(copy, page)
    copy.run("pytest", "users")


def test_static_files_are_collected_in_one_line(editable: Project) -> None:
    run(editable, *commands(section(editable, DEPLOY, "Build")))
    assert (editable.path / "staticfiles" / "staticfiles.json").exists()


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_production_is_tried_at_home(copy: Project, start: Start) -> None:
    port = free_port()
    text = section(copy, DEPLOY, "Try production at home").replace("8001", str(port))
    prepare, processes = (block.content for block in blocks(text, "sh"))
    run(copy, prepare)
    command = processes.removeprefix("uv run ").split()
    running = start(copy, *command)
    (address,) = re.findall(r"^(http://\S+) answers", text, re.MULTILINE)

    def is_ready() -> bool:
        assert running.process.poll() is None, running.output
        try:
            return httpx.get(address).status_code == 200
        except httpx.TransportError:
            return False

    wait_until(is_ready)
    running.wait_for("Starting worker")
    ((header, value, page),) = re.findall(r"`curl --header '(.+): (.+)' (\S+)`", text)
    answer = httpx.get(page, headers={header: value})
    assert answer.status_code == 200
    assert "Password" in answer.text

    lines = (copy.path / ".env.production").read_text().splitlines()
    variables = dict(line.split("=", 1) for line in lines)
    (create,) = commands(section(copy, DEPLOY, "The first user"))
    run(copy, create, **variables)
    superuser = (
        "from users.models import User; print(User.objects.get(username='ann').is_superuser)"
    )
    assert shell(copy, superuser) == "True\n"


def test_the_processes_are_those_of_the_procfile(project: Project) -> None:
    table = section(project, DEPLOY, "Processes")
    procfile = (project.path / "Procfile").read_text()
    described = re.findall(r"^\| (\w+).* \| `(.+)` \|$", table, re.MULTILINE)
    run_ = re.findall(r"^(\w+): DEBUG=off (.+)$", procfile, re.MULTILINE)
    assert described == run_


def test_all_names_in_the_readmes_of_jobs_and_devdb_exist(installed: Project) -> None:
    for unit in ("jobs", "devdb"):
        text = (installed.path / unit / "README.md").read_text()
        names = set(re.findall(rf"`({unit}(?:\.\w+)+)`", text))
        assert len(names) > 3
        code = f"""
import pkgutil
for name in {sorted(names)}:
    pkgutil.resolve_name(name)
"""
        shell(installed, code)


def test_the_equivalents_of_other_queues_work(shop: Project) -> None:
    document = (shop.path / "docs" / "coming-from.md").read_text()
    code = set(
        re.findall(
            r"\| `((?:tasks|job|find_job|cancel_job)\b[^`]*\))[^`(]*` \|$", document, re.MULTILINE
        )
    )
    assert len(code) > 10
    (imports,) = (block.content for block in blocks(document, "text"))
    setup = f"""
{imports}
from datetime import UTC, datetime, timedelta
when = datetime.now(UTC)
job_id = tasks.finish_item.defer(item_id=1)
"""
    for line in sorted(code):
        setup += f"{line}\n"
    shell(shop, setup)
