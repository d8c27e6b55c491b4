"""Everybody removes the sample some day; the tests of the rest still pass."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from conftest import Project, Stack, find_uv, render, stop
from documents import commands, section

CHECKS = [
    ("manage.py", "check"),
    ("manage.py", "makemigrations", "--check"),
    ("ruff", "check"),
    ("ruff", "format", "--check"),
    ("mypy", "."),
    ("pytest", "-n", "auto"),
]

FIRST_PAGE = """
from django.test import Client
from users.models import User
client = Client(headers={"Host": "localhost"})
client.force_login(User.objects.get(username="dev"))
print(client.get("/").content.decode())
"""

# Counts what is left of removed apps in the database.
LEFT = """
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
types = [kind.pk for kind in ContentType.objects.all() if kind.model_class() is None]
tables = [name for name in connection.introspection.table_names() if name.startswith("{app}_")]
print("left:", len(types), Permission.objects.filter(content_type__in=types).count(),
    len(tables), MigrationRecorder.Migration.objects.filter(app="{app}").count())
"""

# Made at run time and left out of the repository.
NOT_OURS = (".git", ".venv", ".devdb", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache")

# Django's forms and messages have these classes, and no template of ours names them.
CLASSES_OF_DJANGO = {"errorlist", "helptext", "warning"}
# On the pages of jobs, the state of a job is a class.
CLASSES_OF_STATES = {"running", "succeeded"}


DEFAULTS = pytest.param({}, marks=pytest.mark.exhaustive)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("names", [DEFAULTS, {"project_slug": "zebra", "app_name": "aa"}], ids=str)
def test_the_sample_is_removed_in_one_step(
    stack: Stack, tmp_path: Path, mypy_cache: dict[str, str], names: dict[str, str]
) -> None:
    project = stack.lend(render(tmp_path, **names))
    project.env |= mypy_cache
    project.env["PATH"] += os.pathsep + str(Path(find_uv()).parent)
    steps = commands(section(project, "docs/jobs.md", "Remove the sample"))
    try:
        stack.start_database(project)
        subprocess.run(
            ["sh", "-ec", "\n".join(steps)], cwd=project.path, env=project.env, check=True
        )
        assert not traces(project)
        left = project.run("manage.py", "shell", f"--command={LEFT.format(app=project.app)}")
        assert "left: 0 0 0 0" in left.stdout
        for check in CHECKS:
            project.run(*check)
        assert "It works" in project.run("manage.py", "shell", f"--command={FIRST_PAGE}").stdout
    finally:
        stop(project)


def traces(project: Project) -> list[str]:
    """Return what is left of the sample in files of every kind."""
    found = []
    files = {
        path.relative_to(project.path): path.read_bytes().decode(errors="replace")
        for path in project.path.rglob("*")
        if path.is_file() and not set(NOT_OURS) & set(path.relative_to(project.path).parts)
    }
    word = re.compile(rf"\b{project.app}\b|contacts?\b", re.IGNORECASE)
    classes = CLASSES_OF_DJANGO | CLASSES_OF_STATES
    for path, text in files.items():
        if path.suffix == ".html":
            for names in re.findall('class="([^"]*)"', text):
                classes |= set(re.findall(r"[\w-]+", names))
        if path.suffix == ".md":
            links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
            found += [f"{path}: {link}" for link in links if path.parent / link not in files]
        if path.suffix == ".png":
            found.append(f"{path}: a picture of the sample")
        # jobs.md tells how to remove the sample, and uv.lock has hashes.
        elif path.name not in ("jobs.md", "uv.lock") and (words := word.search(f"{path}\n{text}")):
            found.append(f"{path}: {words[0]}")
    for path, text in files.items():
        if path.suffix == ".css":
            selectors = " ".join(re.findall(r"([^{}]+)\{", re.sub(r"/\*.*?\*/", "", text)))
            unused = set(re.findall(r"\.([a-z][\w-]*)", selectors)) - classes
            found += [f"{path}: .{name}" for name in sorted(unused)]
    return found
