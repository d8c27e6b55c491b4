"""Chapters of the project's README, followed to the letter."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Project, Stack, find_uv


def chapter(project: Project, heading: str) -> str:
    """Return a chapter of the project's README."""
    readme = (project.path / "README.md").read_text()
    _, text = readme.split(f"\n## {heading}\n")
    return text.split("\n## ")[0]


def snippets(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield each Python block with the word in bold and the file that were named before it."""
    step = file = ""
    for prose, block in re.findall(r"(.*?)```python\n(.*?)```", text, re.DOTALL):
        step = [step, *re.findall(r"\*\*(\w+)\*\*", prose)][-1]
        file = [file, *re.findall(r"`([\w/]+/\w+\.py)`", prose)][-1]
        yield step, file, block


@pytest.fixture
def copy(borrowed: Project, stack: Stack, mypy_cache: dict[str, str]) -> Project:
    """A project to be changed, whose database runs."""
    borrowed.env |= mypy_cache
    stack.start_database(borrowed)
    return borrowed


@pytest.mark.timeout(300)
def test_the_chapter_on_jobs(copy: Project) -> None:
    def add(file: str, block: str) -> None:
        path = copy.path / file
        path.write_text((f"{path.read_text()}\n\n" if path.exists() else "") + block)

    def see_it_work() -> None:
        copy.run("manage.py", "check", "--fail-level", "WARNING")
        copy.run("mypy", ".")
        copy.run("pytest", f"{copy.app}/tests/test_greet.py")

    services = copy.path / copy.app / "services.py"
    services.write_text(
        services.read_text().replace(
            "\nfrom itertools", "\nfrom datetime import timedelta\nfrom itertools"
        )
    )
    *steps, (rename, _, renamed) = snippets(chapter(copy, "Jobs"))
    assert [step for step, _, _ in steps] == [
        "Declare", "Implement", "Implement", "Defer", "Defer", "Test",
    ]  # fmt: skip
    assert rename == "Rename"
    for _, file, block in steps:
        add(file, block)
    see_it_work()

    # A job that waits under the old name is done under the new one.
    defer = f"from {copy.app} import tasks; tasks.greet.defer(contact_id=1)"
    copy.run("manage.py", "shell", "-c", defer)
    declaration = copy.path / copy.app / "tasks.py"
    old = next(block for step, _, block in steps if step == "Declare")
    declaration.write_text(declaration.read_text().replace(old, renamed))
    for file in (
        f"{copy.app}/tests/test_greet.py",
        f"{copy.app}/services.py",
        f"tasks/{copy.app}.py",
    ):
        path = copy.path / file
        path.write_text(re.sub(r"\b(tasks|bridge)\.greet\b", r"\1.welcome", path.read_text()))
    tasks = copy.path / "tasks" / f"{copy.app}.py"
    tasks.write_text(tasks.read_text().replace("def greet(", "def welcome("))
    see_it_work()
    done = copy.run("procrastinate", "--app=tasks.app", "worker", "--one-shot", PYTHONPATH=".")
    assert f"Starting job {copy.app}.greet[" in done.stdout
    assert "Contact matching query does not exist" in done.stdout

    # Removed on both sides, and nothing is left of it.
    declaration.write_text(declaration.read_text().replace(f"\n\n{renamed}", ""))
    body = next(block for step, file, block in steps if file.startswith("tasks/"))
    tasks.write_text(
        re.sub(r"\n\n" + re.escape(body).replace("greet", r"\w+"), "", tasks.read_text())
    )
    assert "welcome" not in declaration.read_text() + tasks.read_text()
    copy.run("manage.py", "check", "--database=default", "--fail-level", "WARNING")


@pytest.mark.timeout(300)
def test_the_chapter_on_a_new_app(copy: Project) -> None:
    copy.env["PATH"] += os.pathsep + str(Path(find_uv()).parent)
    text, _ = chapter(copy, "Add an app").split("\n### ", 1)
    start, use = re.findall("^    (uv run .+)$", text, re.MULTILINE)
    subprocess.run(start, shell=True, cwd=copy.path, env=copy.env, check=True)
    copy.run("manage.py", "migrate")
    subprocess.run(use, shell=True, cwd=copy.path, env=copy.env, check=True)
    done = copy.run("procrastinate", "--app=tasks.app", "worker", "--one-shot", PYTHONPATH=".")
    assert re.search(r"Job shop\.\w+\[\d+\] ended with status: Success", done.stdout)
