"""Without the sample, which everybody removes some day, the rest is green."""

import os
import subprocess
from pathlib import Path

import pytest
from conftest import Stack, find_uv, render, stop
from documents import commands, section

CHECKS = [
    ("manage.py", "check"),
    ("manage.py", "makemigrations", "--check"),
    ("ruff", "check"),
    ("ruff", "format", "--check"),
    ("mypy", "."),
    ("pytest",),
]

FIRST_PAGE = """
from django.test import Client
from users.models import User
client = Client(headers={"Host": "localhost"})
client.force_login(User.objects.get(username="dev"))
print(client.get("/").content.decode())
"""


OTHERS = pytest.param({"project_slug": "zebra", "app_name": "aa"}, marks=pytest.mark.slow)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("names", [{}, OTHERS], ids=str)
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
        traces = subprocess.run(
            ["grep", "-rlw", project.app, "--include=*.py", "."],
            check=False,
            cwd=project.path,
        )
        assert traces.returncode == 1
        for check in CHECKS:
            project.run(*check)
        assert "It works" in project.run("manage.py", "shell", f"--command={FIRST_PAGE}").stdout
    finally:
        stop(project)
