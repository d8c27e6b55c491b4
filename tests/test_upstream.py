"""If a new Procrastinate moves a name that the machinery needs, a test says which."""

import ast
import re
import shutil
from importlib import import_module
from pathlib import Path

import pytest
from conftest import TEMPLATE, Project

JOBS = TEMPLATE / "{{cookiecutter.project_slug}}" / "jobs"


def used_names() -> list[str]:
    """Return the names in USED_NAMES."""
    (names,) = (
        node.value
        for node in ast.parse((JOBS / "upstream.py").read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "USED_NAMES"
    )
    return sorted({*" ".join(ast.literal_eval(names).values()).split()})


# A Python name and an SQL function. The exhaustive tests try all names.
SOME = ("get_retry_exception", "procrastinate_fetch_job_v2")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in SOME else pytest.mark.exhaustive)
        for name in used_names()
    ],
)
def test_a_name_that_moved_is_reported(installed: Project, tmp_path: Path, name: str) -> None:
    where = "import procrastinate; print(procrastinate.__path__[0])"
    package = installed.run("--quiet", "python", "-c", where).stdout.strip()
    copy = tmp_path / "procrastinate"
    shutil.copytree(package, copy)
    for path in [*copy.rglob("*.py"), *copy.rglob("*.sql")]:
        path.write_text(re.sub(rf"\b{name}\b", f"{name}_moved", path.read_text()))
    done = installed.run(
        "pytest", "jobs/tests/test_upstream.py", check=False, PYTHONPATH=str(tmp_path)
    )
    assert done.returncode
    assert re.search(rf"\b{name}(_moved)?\b", done.stdout)


def test_no_other_module_uses_private_names() -> None:
    """Other modules use what Procrastinate documents; upstream.py lists the rest."""
    private = re.compile(r"\b(job_manager|periodic_registry|get_retry_exception|\w+_v\d+)\b")
    others = [path for path in JOBS.glob("*.py") if path.name != "upstream.py"]
    assert not [path.name for path in others if private.search(path.read_text())]


def test_retry_names_errors_that_requests_and_httpx_have() -> None:
    text = (JOBS / "retry.py").read_text()
    names = re.findall(r'"((?:httpx|requests)\.[\w.]+)"', text)
    assert names
    for name in names:
        module, _, error = name.rpartition(".")
        found = getattr(import_module(module), error)
        assert f"{found.__module__}.{found.__qualname__}" == name
