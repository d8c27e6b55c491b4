"""`manage.py startapp` in the rendered project: what it makes, and what it rejects."""

import re
from collections.abc import Iterator

import pytest
from conftest import Project, Stack, render, stop

PYPROJECT = "pyproject.toml"
SETTINGS = "my_project/settings.py"
URLS = "my_project/urls.py"
MARK = "    # startapp adds apps above this line.\n"

# The second is the longest; some come first and some last among sorted imports.
NAMES = [
    "shop",
    "extraordinarily_long_app_names",
    *("aa", "zoo", "x", "a1", "models", "item", "django_shop", "urls"),
]

TAKEN = [
    *("MyApp", "my-app", "my app", "2nd", "büro", "a" * 31, "_private", "shop_", "../shop"),
    *("class", "match", "json", "django", "xdist", "procrastinate", '"; import os; #'),
    *("tasks", "jobs", "users", "my_project", "myapp", "app_template", "manage", "docs"),
    *("auth", "admin", "build", "venv"),
    "app",  # tasks.app is the worker's app, and tasks/app.py would hide it
    "worker",  # a name in tasks/__init__.py
    *("contacts", "imports"),  # the sample's URLs: a namespace and a path
]

WAITING = "from {0}.models import Item; print(Item.objects.filter(finished_at=None).count())"

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def fresh(editable: Project) -> Project:
    """A project without a started app. Its database is not running."""
    return editable


@pytest.fixture(scope="module")
def growing(
    stack: Stack, mypy_cache: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    """A project to which each test adds an app. Its database is running."""
    project = stack.lend(render(tmp_path_factory.mktemp("growing")))
    project.env |= mypy_cache
    stack.start_database(project)
    yield project
    stop(project)


def tree(project: Project) -> dict[str, bytes]:
    """Return the project's files, except its database and the caches of tools."""
    return {
        path.relative_to(project.path).as_posix(): path.read_bytes()
        for path in project.path.rglob("*")
        if path.is_file() and not re.search(r"/(__pycache__|\.\w+_cache|\.devdb)/", path.as_posix())
    }


def changed(before: dict[str, bytes], after: dict[str, bytes]) -> set[str]:
    """Return the files that differ."""
    return {path for path in before | after if before.get(path) != after.get(path)}


def start_app(project: Project, *arguments: str) -> str:
    return project.run("manage.py", "startapp", *arguments).stdout


def shell(project: Project, code: str) -> str:
    return project.run("--quiet", "manage.py", "shell", "--verbosity=0", "-c", code).stdout


def run_gate(project: Project, *tests: str) -> None:
    """Run what a team runs before it merges."""
    project.run("ruff", "check")
    project.run("ruff", "format", "--check")
    project.run("mypy", ".")
    project.run("manage.py", "check", "--fail-level", "WARNING")
    project.run("manage.py", "makemigrations", "--check")
    # Who may import whom, and what all pages must have.
    assert "passed" in project.run("pytest", "my_project", *tests).stdout


@pytest.mark.parametrize(
    "name",
    [
        *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[:2]),
        *(pytest.param(name, marks=pytest.mark.exhaustive) for name in NAMES[2:]),
    ],
)
def test_a_started_app_is_green_and_a_worker_runs_its_job(growing: Project, name: str) -> None:
    before = tree(growing)
    assert f"Created {name}/" in start_app(growing, name)
    run_gate(growing, name)

    after = tree(growing)
    assert {path for path in before if after[path] != before[path]} == {PYPROJECT, SETTINGS, URLS}
    made = after.keys() - before.keys()
    assert f"{name}/tests/test_{name}.py" in made
    assert {path for path in made if not path.startswith(f"{name}/")} == {f"tasks/{name}.py"}

    growing.run("manage.py", "migrate")
    shell(growing, f"from {name} import services; services.add_item(name='Tea')")
    assert shell(growing, WAITING.format(name)).startswith("1\n")
    worker = ("procrastinate", "--app=tasks.app", "worker", "--one-shot")
    growing.run(*worker, PYTHONPATH=".", DJANGO_SETTINGS_MODULE="my_project.settings")
    assert shell(growing, WAITING.format(name)).startswith("0\n")


@pytest.mark.exhaustive
def test_all_of_a_projects_tests_pass_in_two_processes(growing: Project) -> None:
    assert "passed" in growing.run("pytest", "-n", "2").stdout


def test_taken_names_are_rejected_in_one_sentence(fresh: Project) -> None:
    before = tree(fresh)
    # All in one process, because none of them may change anything.
    code = f"""
from django.core.management import CommandError, call_command
for name in {TAKEN}:
    try:
        call_command("startapp", name)
    except CommandError as error:
        print(error)
"""
    sentences = shell(fresh, code).splitlines()
    assert changed(before, tree(fresh)) == set()
    assert len(sentences) == len(TAKEN)
    for name, sentence in zip(TAKEN, sentences, strict=True):
        assert re.fullmatch(r".*: (choose another name|nothing was changed)\.", sentence)
        assert name in sentence


def test_the_same_name_twice_changes_nothing(fresh: Project) -> None:
    start_app(fresh, "shop")
    before = tree(fresh)
    done = fresh.run("manage.py", "startapp", "shop", check=False)
    assert done.returncode != 0
    assert done.stdout == "CommandError: 'shop' already exists: choose another name.\n"
    assert changed(before, tree(fresh)) == set()


@pytest.mark.parametrize("error", ["OSError('No space left')", "KeyboardInterrupt"])
def test_a_failure_midway_leaves_nothing(fresh: Project, error: str) -> None:
    before = tree(fresh)
    code = f"""
from pathlib import Path
from django.core.management import call_command
write = Path.write_bytes
def fail_at_the_last(path, content):
    if path.name == "urls.py" and b"shop" in content:
        write(path, b"half")
        raise {error}
    write(path, content)
Path.write_bytes = fail_at_the_last
call_command("startapp", "shop")
"""
    done = fresh.run("manage.py", "shell", "-c", code, check=False)
    assert done.returncode != 0
    assert ("No space left: nothing was changed." in done.stdout) == ("OSError" in error)
    assert changed(before, tree(fresh)) == set()
    assert not (fresh.path / "shop").exists()


@pytest.mark.slow
def test_without_the_marks_it_says_what_is_missing_until_it_is_there(fresh: Project) -> None:
    # The text after the mark in each file.
    ends = {
        fresh.path / SETTINGS: "]\nif DEBUG:\n    INSTALLED_APPS",
        fresh.path / URLS: "    # The home page, unless",
        fresh.path / PYPROJECT: ']\n\n[[tool.importlinter.contracts]]\nname = "Only the',
    }
    for path, end in ends.items():
        path.write_text(path.read_text().replace(MARK + end, end))
    before = {path: path.read_text() for path in ends}
    said = start_app(fresh, "shop")
    assert before == {path: path.read_text() for path in ends}

    for path, end in ends.items():
        place = path.relative_to(fresh.path).as_posix()
        (text,) = re.findall(rf"^Add to \w+ in {place}: (.+)$", said, re.MULTILINE)
        done = fresh.run("manage.py", "check", "--fail-level", "WARNING", check=False)
        assert done.returncode != 0
        assert f"in {place}: {text}" in done.stdout
        path.write_text(path.read_text().replace(end, f"    {text}\n{end}"))
    fresh.run("manage.py", "check", "--fail-level", "WARNING")
    fresh.run("ruff", "format", "--check")


def test_with_a_directory_it_is_djangos_own_command(fresh: Project) -> None:
    (fresh.path / "plain/shop").mkdir(parents=True)
    before = tree(fresh)
    assert start_app(fresh, "shop", "plain/shop") == ""
    made = tree(fresh)
    assert made.keys() - before.keys() >= {"plain/shop/models.py", "plain/shop/tests.py"}
    assert {path: made[path] for path in before} == before
