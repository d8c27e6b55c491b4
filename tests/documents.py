"""Reads the rendered project's README and docs, and follows them to the letter.

A block of `sh` is run. A block of `python` is added to the file that was last named before it,
and a block of `diff` changes that file. A block of `text` is for reading only.
"""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from conftest import Project, find_uv

HEADING = re.compile(r"(#+) (.+)")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PATH = re.compile(r"`([\w/]+/\w+\.py|pyproject\.toml)`")
# The imports at the top of a file, each on one line or in brackets.
IMPORTS = re.compile(r"(?:(?:from|import) [^(\n]+(?:\([^)]*\))?\n|\n)+")


@dataclass(frozen=True)
class Block:
    """A fenced block, with the file that was last named before it."""

    language: str
    content: str
    file: str


def sections(text: str) -> dict[str, str]:
    """Return a document's sections by their headings, each with its subsections."""
    found: dict[str, str] = {}
    open_sections: list[tuple[int, str]] = []
    fenced = False
    for line in text.splitlines(keepends=True):
        fenced ^= line.startswith("```")
        if not fenced and (heading := HEADING.match(line)):
            level = len(heading[1])
            open_sections = [one for one in open_sections if one[0] < level]
            open_sections.append((level, heading[2]))
            found[heading[2]] = ""
            continue
        for _, name in open_sections:
            found[name] += line
    return found


def section(project: Project, document: str, heading: str) -> str:
    """Return what a document of the project says under a heading."""
    return sections((project.path / document).read_text())[heading]


def blocks(text: str, language: str = "") -> Iterator[Block]:
    """Yield the blocks, all of them or those in one language."""
    for match in BLOCK.finditer(text):
        named = PATH.findall(text[: match.start()])
        if language in ("", match[1]):
            yield Block(match[1], match[2], named[-1] if named else "")


def commands(text: str) -> list[str]:
    """Return the lines of the blocks that are run."""
    return [line for block in blocks(text, "sh") for line in block.content.splitlines()]


def workflow(project: Project) -> Any:
    """Return the content of the project's workflow for GitHub."""
    return yaml.safe_load((project.path / ".github" / "workflows" / "ci.yml").read_text())


def follow(project: Project, text: str) -> None:
    """Do what each block says."""
    for block in blocks(text):
        path = project.path / block.file
        if block.language == "sh":
            run(project, block.content)
        elif block.language == "diff":
            apply_diff(path, block.content)
        elif block.language == "python":
            add_code(path, block.content)


def run(project: Project, script: str, **env: str) -> str:
    """Run a script as printed, and return its output. The virtual environment is active."""
    done = subprocess.run(
        ["sh", "-ec", script],
        check=False,
        cwd=project.path,
        env=project.env | environment_path(project) | env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}"
    return done.stdout


def environment_path(project: Project) -> dict[str, str]:
    """Return a PATH that has uv and the programs of the virtual environment."""
    venv = project.env.get("UV_PROJECT_ENVIRONMENT", project.path / ".venv")
    return {"PATH": f"{venv}/bin:{Path(find_uv()).parent}:{project.env['PATH']}"}


def add_code(path: Path, code: str) -> None:
    """Add code to a module, its imports at the top; or make a new module with the code."""
    if not path.exists():
        path.write_text(code)
        return
    module = path.read_text()
    imports = match[0].strip() if (match := IMPORTS.match(code)) else ""
    rest = code[match.end() :] if match else code
    place = re.search(r"^(?:from|import) ", module, re.MULTILINE)
    assert place, path
    head, tail = module[: place.start()], module[place.start() :]
    path.write_text(f"{head}{imports}\n{tail}\n\n{rest}" if imports else f"{module}\n\n{rest}")


def sort_imports(project: Project) -> None:
    """Sort the imports, as an editor does after code was added."""
    project.run("ruff", "check", "--fix", "--select=I")


def apply_diff(path: Path, diff: str) -> None:
    """Apply a diff to a file; each hunk must match exactly one place."""
    module = path.read_text()
    for hunk in re.split(r"^@@\n", diff, flags=re.MULTILINE):
        lines = hunk.splitlines(keepends=True)
        before = "".join(line[1:] or line for line in lines if line[0] in " -\n")
        after = "".join(line[1:] or line for line in lines if line[0] in " +\n")
        assert module.count(before) == 1, before
        module = module.replace(before, after)
    path.write_text(module)


def lint(project: Project) -> None:
    """Run what a team runs before it merges, except the tests."""
    project.run("ruff", "check")
    project.run("ruff", "format", "--check")
    project.run("mypy")
    project.run("lint-imports")
    project.run("manage.py", "check", "--fail-level", "WARNING")


def shell(project: Project, code: str) -> str:
    """Run Python code in the project, and return its output."""
    return project.run("--quiet", "manage.py", "shell", "--verbosity=0", "-c", code).stdout


def run_worker(project: Project) -> str:
    """Let a worker run the jobs that are due, and return its output."""
    worker = ("procrastinate", "--app=tasks.app", "worker", "--one-shot")
    return project.run(*worker, PYTHONPATH=".").stdout
