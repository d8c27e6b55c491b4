"""What notices that a bridge and a worker disagree, and when."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import (
    TEMPLATE,
    Project,
    Stack,
    Start,
    both_stacks,
    find_uv,
    free_port,
    stop,
)

WORKER = ("procrastinate", "--app=tasks.app", "worker", "--one-shot")

# An app whose jobs use all options.
SHOP = {
    "shop/__init__.py": "",
    "shop/tasks.py": '''\
from jobs.bridge import job
from jobs.retry import Retry


@job(
    name="shop.send",
    queue="mail",
    priority=5,
    lock="order:{order_id}",
    queueing_lock="send:{order_id}:{by}",
    retry=None,
    aliases=("shop.send_old",),
)
def ship(*, order_id: int, by: str = "air") -> None:
    """Ship an order."""


@job(retry=Retry(max_attempts=3))
def restock(sku: str, *, number: int) -> None:
    """Order more of an article."""


@job(queue="mail", priority=2, lock="stock", retry=None, aliases=("shop.old_count",))
def count_stock(*, sku: str) -> None:
    """Count an article."""


@job()
def report(timestamp: int) -> None:
    """Mail the day's figures."""
''',
    "shop/services.py": """\
from . import tasks


def buy(order_id: int) -> None:
    tasks.ship.configure(priority=9).defer(order_id=order_id)
    tasks.ship.defer(order_id=order_id, by="sea")
    tasks.restock.batch_defer([tasks.restock.call("a", number=2)])
    tasks.count_stock.defer(sku="a")
    tasks.report.defer(timestamp=0)
""",
    "tasks/shop.py": '''\
from procrastinate import JobContext

from jobs.retry import Retry
from shop import tasks as bridge

from . import app

ONCE = Retry(max_attempts=1)


@bridge.ship.task(app)
def ship(*, order_id: int, by: str = "air") -> None:
    """Ship an order."""


@bridge.restock.task(app, pass_context=True)
async def restock(context: JobContext, sku: str, *, number: int) -> None:
    """Order more of an article."""


@bridge.count_stock.task(app)
def count_stock(*, sku: str) -> None:
    """Count an article."""


@app.periodic(cron="0 6 * * *")
@bridge.report.task(app)
def report(timestamp: int) -> None:
    """Mail the day's figures."""


@app.periodic(cron="*/5 * * * *", periodic_id="five")
@app.task(name="shop.sweep", queue="mail", queueing_lock="shop.sweep", pass_context=True)
async def sweep(context: JobContext, timestamp: int) -> None:
    """Delete what is old."""
''',
}
BRIDGE, BODIES = SHOP["shop/tasks.py"], SHOP["tasks/shop.py"]

# For each check: an edit that breaks something, and what `manage.py check` then says.
EDITS = {
    "E001": (
        {"shop/tasks.py": BRIDGE + "\n\n@job()\ndef ghost() -> None: ...\n"},
        "shop/tasks.py:33: (jobs.E001) shop.ghost has no task.",
    ),
    "E002": (
        {"tasks/shop.py": BODIES + "\n\n@app.task(name='shop.ghost')\ndef ghost() -> None: ...\n"},
        "tasks/shop.py:38: (jobs.E002) shop.ghost is not declared.",
    ),
    "E003 a name": (
        {"tasks/shop.py": BODIES.replace("sku: str)", "sku_id: str)")},
        "shop/tasks.py:23: (jobs.E003) shop.count_stock takes (*, sku: str) -> None, "
        + "its task in tasks/shop.py:21 is count_stock(*, sku_id: str) -> None.",
    ),
    "E003 a default": (
        {"tasks/shop.py": BODIES.replace('"air"', '"sea"')},
        "shop/tasks.py:5: (jobs.E003) shop.send takes",
    ),
    "E003 a kind": (
        {"tasks/shop.py": BODIES.replace("(*, sku", "(sku")},
        "shop/tasks.py:23: (jobs.E003) shop.count_stock takes",
    ),
    "E003 no context": (
        {
            "tasks/shop.py": BODIES.replace(
                "count_stock.task(app", "count_stock.task(app, pass_context=True"
            )
        },
        "shop/tasks.py:23: (jobs.E003) shop.count_stock takes",
    ),
    "E003 another's body": (
        {"tasks/shop.py": BODIES.replace("def count_stock", "def count")},
        "shop/tasks.py:23: (jobs.E003) shop.count_stock takes",
    ),
    "E004": (
        {
            "tasks/shop.py": BODIES.replace(
                "@bridge.count_stock.task(app)", "@app.task(name='shop.count_stock')"
            )
        },
        "shop/tasks.py:23: (jobs.E004) shop.count_stock and its task in tasks/shop.py:21",
    ),
    "E005": (
        {"shop/tasks.py": BRIDGE.replace("    retry=None,\n", "")},
        "shop/tasks.py:5: (jobs.E005) shop.send: a retry collides",
    ),
    "E005 of a periodic task": (
        {"tasks/shop.py": BODIES.replace('"0 6 * * *"', '"0 6 * * *", queueing_lock="a"')},
        "tasks/shop.py:26: (jobs.E005) shop.report: a retry collides",
    ),
    "E006 a queue": (
        {"shop/tasks.py": BRIDGE.replace('"mail",\n', f'"{"é" * 21}",\n')},
        "shop/tasks.py:5: (jobs.E006) shop.send: a job's name may have 128 characters",
    ),
    "E006 a name": (
        {"shop/tasks.py": BRIDGE.replace('"shop.send"', f'"{"x" * 129}"')},
        "shop/tasks.py:5: (jobs.E006) xxx",
    ),
    "E007": (
        {"tasks/shop.py": BODIES.replace('"0 6 * * *"', '"0 25 * * *"')},
        "tasks/shop.py:26: (jobs.E007) shop.report cannot run at '0 25 * * *'",
    ),
    "E007 no such day": (
        {"tasks/shop.py": BODIES.replace('"0 6 * * *"', '"0 6 31 2 *"')},
        "tasks/shop.py:26: (jobs.E007) shop.report cannot run at '0 6 31 2 *'",
    ),
    "E007 no timestamp": (
        {
            "tasks/shop.py": BODIES.replace(
                "context: JobContext, timestamp", "context: JobContext, at"
            )
        },
        "tasks/shop.py:32: (jobs.E007) shop.sweep cannot run",
    ),
    "E008": (
        {"shop/tasks.py": BRIDGE.replace("order:{order_id}", "order:{order_pk}")},
        "shop/tasks.py:5: (jobs.E008) shop.send: the lock 'order:{order_pk}' has fields",
    ),
    "E008 no template": (
        {"shop/tasks.py": BRIDGE.replace("order:{order_id}", "order:{order_id")},
        "shop/tasks.py:5: (jobs.E008) shop.send: the lock 'order:{order_id' is not a valid",
    ),
    "E009": (
        {"tasks/shop.py": f"import nothing_of_that_name\n{BODIES}"},
        "tasks/shop.py:1: (jobs.E009) tasks.shop cannot be imported: ModuleNotFoundError",
    ),
    "E009 the syntax": (
        {"tasks/shop.py": f"{BODIES}\n("},
        "(jobs.E009) tasks.shop cannot be imported: SyntaxError: '(' was never closed (shop.py, line",
    ),
    "E009 the package": (
        {"tasks/__init__.py": "import nothing_of_that_name"},
        "tasks/__init__.py:1: (jobs.E009) tasks cannot be imported: ModuleNotFoundError",
    ),
    "E009 a bridge that nobody imports": (
        {"tasks/shop.py": "", "shop/tasks.py": "1 / 0"},
        "shop/tasks.py:1: (jobs.E009) shop.tasks cannot be imported: ZeroDivisionError",
    ),
    "E009 tasks.app": (
        {"tasks/app.py": ""},
        "(jobs.E009) tasks.app cannot be imported: ImportError: the worker's app has this name",
    ),
    "E009 an atomic job with an async body": (
        {"shop/tasks.py": BRIDGE.replace("retry=Retry(max_attempts=3)", "atomic=True")},
        "(jobs.E009) tasks.shop cannot be imported: TypeError: shop.restock is atomic: its body must",
    ),
    "E011": (
        {
            "shop/tasks.py": BRIDGE.replace(
                "@job()\ndef report", '@job(lock="day:{timestamp}")\ndef report'
            )
        },
        "tasks/shop.py:26: (jobs.E011) shop.report is periodic, so its lock cannot have fields",
    ),
    "W002": (
        {"Procfile": "worker: procrastinate --app=tasks.app worker -q default\n"},
        "tasks/shop.py:11: (jobs.W002) No worker of the Procfile serves 'mail', shop.send's queue.",
    ),
}


def copy_of(project: Project, folder: Path) -> Project:
    """Copy a project; the copy shares its virtual environment."""
    path = folder / project.slug
    skip = shutil.ignore_patterns(".devdb", ".*_cache", "__pycache__")
    shutil.copytree(project.path, path, ignore=skip)
    return Project(path, project.slug, project.app, dict(project.env))


def write(project: Project, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = project.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


@pytest.fixture(scope="module")
def with_shop(installed: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A copy with one more app. Tests must not change it."""
    project = copy_of(installed, tmp_path_factory.mktemp("shop"))
    write(project, SHOP)
    for name in (f"{project.slug}/settings.py", "pyproject.toml"):
        path = project.path / name
        path.write_text(path.read_text().replace('    "users",\n', '    "users",\n    "shop",\n'))
    yield project
    stop(project)


@pytest.fixture
def shop(with_shop: Project, tmp_path: Path) -> Iterator[Project]:
    """A copy of it, which the test may change."""
    project = copy_of(with_shop, tmp_path)
    yield project
    stop(project)


@pytest.fixture
def migrated(shop: Project, stack: Stack) -> Project:
    """The same, with a running database."""
    stack.start_database(shop)
    return shop


def mutate(project: Project, *arguments: str, edits: object = None) -> Any:
    """Run mutations.py in a project."""
    done = subprocess.run(
        [find_uv(), "run", "--quiet", "python", TEMPLATE / "tests" / "mutations.py", *arguments],
        check=True,
        cwd=project.path,
        env=project.env | {"DJANGO_SETTINGS_MODULE": f"{project.slug}.settings"},
        input=json.dumps(edits),
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout)


@both_stacks
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("step", [29, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_every_field_of_every_declaration_is_guarded(migrated: Project, step: int) -> None:
    files = ["myapp/tasks.py", "shop/tasks.py", "tasks/myapp.py", "tasks/shop.py"]
    survivors = []
    for mutant in mutate(migrated, str(step), *files):
        by = [guard for guard in ("types", "check", "call") if mutant[guard]]
        fate = "" if by else "both sides follow"
        if mutant["new"] or mutant["waiting"]:
            fate = "SURVIVES"
            survivors.append(mutant)
        codes = " ".join(mutant["check"])
        print(f"{mutant['file']:16} {mutant['what']:36} {mutant['how']:36} {by} {codes} {fate}")
    assert not survivors


@both_stacks
def test_check_says_what_is_wrong_and_where(with_shop: Project) -> None:
    unchanged, *found = mutate(with_shop, edits=[{}, *(edit for edit, _ in EDITS.values())])
    assert unchanged == []
    for (name, (_, expected)), messages in zip(EDITS.items(), found, strict=True):
        said = [message for message in messages if f"(jobs.{name[:4]})" in message]
        assert expected in "\n".join(said), (name, messages)
        assert all("HINT: " in message for message in messages)


def test_a_worker_without_periodic_tasks_is_warned_about(with_shop: Project) -> None:
    edit = {
        f"tasks/{path.name}": re.sub("(?m)^@app.periodic.*\n", "", path.read_text())
        for path in (with_shop.path / "tasks").glob("*.py")
    }
    made = "worker.make_app(__name__)"
    package = edit["tasks/__init__.py"]
    assert made in package
    edit["tasks/__init__.py"] = "from procrastinate import App\n\n" + package.replace(
        made, 'App(connector=worker.make_connector(), import_paths=["tasks.myapp", "tasks.shop"])'
    )
    (messages,) = mutate(with_shop, edits=[edit])
    assert "tasks: (jobs.W001) The worker has no periodic task." in "\n".join(messages)


def test_queues_are_served_by_a_worker_of_the_procfile(with_shop: Project) -> None:
    lines = {
        "worker: procrastinate --app=tasks.app worker -q mail": {"default"},
        "worker: procrastinate --app=tasks.app worker --queues=mail,default": set(),
        "slow: PROCRASTINATE_WORKER_QUEUES=default procrastinate --app=tasks.app worker": {"mail"},
        "a: procrastinate --app=tasks.app worker -qmail\nb: procrastinate --app=tasks.app worker": set(),
        "web: gunicorn": set(),
    }
    found = mutate(with_shop, edits=[{"Procfile": line} for line in lines])
    for (line, unserved), messages in zip(lines.items(), found, strict=True):
        queues = re.findall(r"\(jobs.W002\) .* serves '(\w+)'", "\n".join(messages))
        assert set(queues) == unserved, line


def test_waiting_jobs_without_a_task_are_reported(migrated: Project) -> None:
    migrated.run(
        "manage.py", "shell", "-c", "from shop import tasks; tasks.report.defer(timestamp=0)"
    )
    renamed = {"shop/tasks.py": BRIDGE, "tasks/shop.py": BODIES}
    write(migrated, {path: text.replace("report", "tell") for path, text in renamed.items()})
    assert "W003" not in migrated.run("manage.py", "check").stdout
    lost = "tasks: (jobs.W003) 1 waiting job of shop.report: no such task."
    assert lost in migrated.run("manage.py", "check", "--database=default").stdout
    assert lost in migrated.run("manage.py", "migrate").stdout

    former = BRIDGE.replace("@job()", "@job(aliases=('shop.report',))").replace("report(", "tell(")
    write(migrated, {"shop/tasks.py": former})
    assert "W003" not in migrated.run("manage.py", "check", "--database=default").stdout


@pytest.mark.slow
def test_waiting_jobs_whose_arguments_no_longer_fit_are_reported(migrated: Project) -> None:
    code = "from shop import tasks; [tasks.count_stock.defer(sku='a') for _ in range(3)]"
    migrated.run("manage.py", "shell", "-c", code)
    check = ("manage.py", "check", "--database=default")
    assert "W006" not in migrated.run(*check).stdout
    changed = {"shop/tasks.py": BRIDGE, "tasks/shop.py": BODIES}
    wider = "def count_stock(*, sku: str, place: str{}) -> None:"
    for default, reported in ((" = 'here'", False), ("", True)):
        edit = {
            path: text.replace("def count_stock(*, sku: str) -> None:", wider.format(default))
            for path, text in changed.items()
        }
        write(migrated, edit)
        said = migrated.run(*check).stdout
        text = "3 waiting jobs of shop.count_stock: missing a required"
        assert (f"(jobs.W006) {text}" in said) == reported, said


def test_the_worker_does_not_start_with_a_broken_contract(migrated: Project) -> None:
    migrated.run(*WORKER, PYTHONPATH=".")
    write(migrated, EDITS["E003 a name"][0])
    for command in (("manage.py", "check"), WORKER):
        done = migrated.run(*command, check=False, PYTHONPATH=".")
        assert done.returncode == 1
        assert EDITS["E003 a name"][1] in done.stdout
        assert "Traceback" not in done.stdout
        assert "Starting worker" not in done.stdout


def test_check_works_through_a_symlink(shop: Project, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(shop.path)
    manage = str(link / "manage.py")
    shop.run("python", manage, "check")
    edit, expected = EDITS["E009"]
    write(shop, edit)
    assert expected in shop.run("python", manage, "check", check=False).stdout


def test_procrastinates_django_app_runs_no_worker(migrated: Project) -> None:
    done = migrated.run("manage.py", "procrastinate", "worker", "--one-shot", check=False)
    assert done.returncode == 1
    assert "Run PYTHONPATH=. procrastinate --app=tasks.app worker" in done.stdout
    assert "Traceback" not in done.stdout
    migrated.run("manage.py", "procrastinate", "healthchecks")


def test_a_web_server_never_loads_the_tasks(shop: Project, start: Start) -> None:
    probe = "def post_request(worker, request, environ, response):\n    import sys\n    print('tasks' in sys.modules, 'probed', flush=True)\n"
    write(shop, {"probe.py": (shop.path / "gunicorn.conf.py").read_text() + probe})
    port = str(free_port())
    running = start(shop, "gunicorn", "--config=probe.py", f"{shop.slug}.wsgi", PORT=port)
    running.wait_for("Listening at")
    assert httpx.get(f"http://127.0.0.1:{port}/accounts/login/").status_code == 200
    running.wait_for("probed")
    assert "False probed" in running.output


def test_the_worker_starts_with_an_app_that_queries_the_database_early(migrated: Project) -> None:
    write(
        migrated,
        {
            "shop/apps.py": (
                "from django.apps import AppConfig\n\n\n"
                "class ShopConfig(AppConfig):\n"
                '    name = "shop"\n\n'
                "    def ready(self):\n"
                "        from users.models import User\n"
                "        User.objects.exists()\n"
            )
        },
    )
    migrated.run(*WORKER, PYTHONPATH=".")


def test_forbidden_imports_are_reported(shop: Project) -> None:
    shop.run("pytest", "my_project/tests/test_import_rules.py")
    for name, line in {
        "shop/views.py": "from tasks import shop",
        "shop/tasks.py": "from shop import services",
        "jobs/logs.py": "from users import models",
        "shop/services.py": "from shop import views",
    }.items():
        with (shop.path / name).open("a") as file:
            file.write(f"\n\ndef broken():\n    {line}\n")
    done = shop.run("pytest", "my_project/tests/test_import_rules.py", check=False)
    broken = re.findall("^(.+) BROKEN", done.stdout, re.MULTILINE)
    assert len(broken) == 4, done.stdout

    for name, line, rule in (
        ("services.py", "from django.http import HttpRequest", "TID251"),
        ("views.py", "import procrastinate.contrib.django", "TID253"),
    ):
        (shop.path / "shop" / name).write_text(f"{line}\n")
        assert rule in shop.run("ruff", "check", "shop", check=False).stdout


def pyright(project: Project, *arguments: str) -> list[tuple[str, int]]:
    """Return the files and lines with errors of pyright."""
    (project.path / ".venv").symlink_to(project.env["UV_PROJECT_ENVIRONMENT"])
    write(
        project,
        {
            "pyrightconfig.json": '{"typeCheckingMode": "standard", "venv": ".venv", "venvPath": "."}'
        },
    )
    done = subprocess.run(
        ["basedpyright", "--outputjson", *arguments],
        check=False,
        cwd=project.path,
        capture_output=True,
        text=True,
    )
    found = json.loads(done.stdout)["generalDiagnostics"]
    return [
        (Path(one["file"]).name, one["range"]["start"]["line"] + 1)
        for one in found
        if one["severity"] == "error"
    ]


@pytest.mark.slow
def test_basedpyright_finds_nothing(shop: Project) -> None:
    python = Path(shop.env["UV_PROJECT_ENVIRONMENT"], "bin", "python")
    done = subprocess.run(
        ["basedpyright", "--pythonpath", python],
        check=False,
        cwd=shop.path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_bad_calls_are_reported_by_mypy_and_by_pyright(
    shop: Project, mypy_cache: dict[str, str]
) -> None:
    shop.env |= mypy_cache
    text = (TEMPLATE / "tests" / "bad_calls.py").read_text()
    write(shop, {"bad_calls.py": text})
    wrong = [n for n, line in enumerate(text.splitlines(), 1) if line.endswith("# wrong")]
    assert len(wrong) > 40
    output = shop.run("mypy", "bad_calls.py", check=False).stdout
    assert sorted({int(n) for n in re.findall(r"bad_calls.py:(\d+): error", output)}) == wrong
    assert sorted({n for _, n in pyright(shop, "bad_calls.py")}) == wrong
