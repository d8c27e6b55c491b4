"""Every answer is either rejected, or makes a project that works."""

import ast
import io
import re
import shutil
import subprocess
import sys
import tomllib
from contextlib import redirect_stderr
from pathlib import Path

import pytest
from conftest import Project, Stack, render
from cookiecutter.exceptions import FailedHookException
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_render import expected_paths, files, text

from template_answers import problem_with

# A name can have a meaning in the path of any file, and in these files.
CONFIGURATION = ("pyproject.toml", ".gitignore", "Procfile", "Procfile.dev")

# These must report nothing. The number of tests must be the same for all names.
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
    """Return what ruff finds in the project, and the files in which it misses a planted error."""
    found = [ruff(project, "check"), ruff(project, "format", "--check")]
    planted = [project.path / project.app / "views.py", project.path / project.slug / "urls.py"]
    for path in planted:
        path.write_text(f"{text(path)}\nimport decimal  \n")
    for command in (["check", "--output-format=concise"], ["format", "--check"]):
        said = ruff(project, *command)
        found += [f"{command} skips {path}" for path in planted if path.name not in said]
    return list(filter(None, found))


def test_no_name_hides_a_package_that_is_installed(installed: Project) -> None:
    code = """
import pkgutil, site
print(*(module.name for module in pkgutil.iter_modules(site.getsitepackages())))
"""
    packages = installed.run("python", "-c", code).stdout.split()
    assert {"django", "typing_extensions"} <= {*packages}
    assert not [name for name in packages if not problem_with(name)]


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


# Cookiecutter itself renders what is in braces.
TEXTS = st.text(max_size=50).filter(lambda text: not set("{}") & set(text))
NAMES = st.one_of(
    st.from_regex(r"[a-z][a-z0-9_]{0,29}", fullmatch=True),
    st.sampled_from(["", "a/b", "../a", "/a", ".", "..", "A", "json", "a.b", "a" * 31, "a\nb"]),
    TEXTS,
)
ANSWERS = st.fixed_dictionaries(
    {}, optional={"project_name": TEXTS, "project_slug": NAMES, "app_name": NAMES}
)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("renders", [15, pytest.param(1_000, marks=pytest.mark.exhaustive)])
def test_any_answers_make_a_project_or_one_sentence(tmp_path: Path, renders: int) -> None:
    made = []

    @settings(
        max_examples=renders,
        deadline=None,
        database=None,
        derandomize=renders == 15,
        suppress_health_check=list(HealthCheck),
    )
    @given(ANSWERS)
    def check(answers: dict[str, str]) -> None:
        folder = tmp_path / "out"
        folder.mkdir()
        said = io.StringIO()
        try:
            with redirect_stderr(said):
                project = render(folder, **answers)
        except FailedHookException:
            assert re.fullmatch(r"(project_slug|app_name) .+: choose [^.]+\.\n", said.getvalue())
            assert not list(folder.iterdir())
        else:
            made.append(answers)
            rendered = files(project.path)
            assert sorted(rendered) == expected_paths(project.slug, project.app)
            assert list(folder.iterdir()) == [project.path]
            tomllib.loads(text(rendered["pyproject.toml"]))
            for path, file in rendered.items():
                if path.endswith(".py"):
                    ast.parse(text(file))
        shutil.rmtree(folder)

    check()
    assert not list(tmp_path.iterdir())
    assert made
