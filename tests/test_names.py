"""No name that the shipped files mention breaks a project, unless it is rejected."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Project, Stack, render
from test_render import files, text

from template_answers import problem_with

# What gives names a meaning: the paths of all files, and these files' contents.
CONFIGURATION = ("pyproject.toml", ".gitignore", "Procfile", "Procfile.dev")

# These must find nothing, and the tests must be as many as with other names.
GATE = [
    ("manage.py", "check"),
    ("lint-imports",),
    ("pytest", "--collect-only", "-q", "--no-header"),
]


def names(project: Project) -> list[str]:
    """Return all names in paths and in the configuration that are not rejected."""
    mentioned = {word for path in files(project.path) for word in words(path)}
    for name in CONFIGURATION:
        mentioned |= set(words(re.sub("(?m)#.*", "", text(project.path / name))))
    return sorted(name for name in mentioned if not problem_with(name))


def words(text: str) -> list[str]:
    return re.findall(r"(?<![A-Za-z0-9_])[a-z][a-z0-9_]*(?![A-Za-z0-9_])", text)


def ruff(project: Project, *command: str) -> str:
    """Return what ruff finds in the project."""
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "--no-cache", "--quiet", "."],
        check=False,
        cwd=project.path,
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr


def faults(project: Project) -> list[str]:
    """Return what ruff finds in the project, and where it finds nothing although it should."""
    found = [ruff(project, "check"), ruff(project, "format", "--check")]
    planted = [project.path / project.app / "views.py", project.path / project.slug / "urls.py"]
    for path in planted:
        path.write_text(f"{text(path)}\nimport decimal  \n")
    for command in (["check", "--output-format=concise"], ["format", "--check"]):
        said = ruff(project, *command)
        found += [f"{command} skips {path}" for path in planted if path.name not in said]
    return list(filter(None, found))


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
def test_no_name_has_a_meaning_for_the_tools(
    stack: Stack, project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    free = names(project)
    assert {"views", "forms", "contacts"} <= {*free}
    expected = number_of_tests(stack.lend(render(tmp_path / "base")))
    bad = {}
    for number, (app, slug) in enumerate(zip(free, [*free[1:], free[0]], strict=True)):
        one = stack.lend(render(tmp_path / str(number), app_name=app, project_slug=slug))
        for command in GATE:
            done = one.run(*command, check=False)
            if done.returncode:
                bad[app, slug, command[0]] = done.stdout
        if number_of_tests(one) != expected:
            bad[app, slug, "tests"] = "some are not collected"
        if found := faults(one):
            bad[app, slug, "ruff"] = "\n".join(found)
    with capsys.disabled():
        print(f"\n{len(free)} names, each as app_name and as project_slug")
    assert not bad


def number_of_tests(project: Project) -> str:
    """Return what pytest says about the number of tests."""
    said = project.run("pytest", "--collect-only", "-q", check=False).stdout
    return "".join(re.findall(r"(\d+) tests? collected", said))
