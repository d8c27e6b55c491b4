"""What comes out of the template: which files, for which answers, and how clean they are."""

import html
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import TEMPLATE, Project, Stack, clean_environment, find_uv, render
from cookiecutter.exceptions import FailedHookException

from template_answers import problem_with

PROJECT = TEMPLATE / "{{cookiecutter.project_slug}}"

AWKWARD_PROJECT_NAMES = [
    """It's "quoted" \\ 'twice' \\n""",
    "<script>alert(1)</script> & Söhne",
    "🎉",
    "$(id) `id` ${HOME} %(name)s {0} --- #",
    '"); import os; os.mkdir("pwned") #',
    "Long " * 40,
]

# Slug and app: the first and the last among sorted imports, and as long as possible.
AWKWARD_NAMES = [
    ("zebra", "aa"),
    ("aardvark", "zoo"),
    ("a_project_name_of_thirty_chars", "extraordinarily_long_app_names"),
]

INJECTION = '"; import os; os.mkdir("pwned") #'

REJECTED = [
    ("app_name", "MyApp"),
    ("app_name", "my-app"),
    ("app_name", "my app"),
    ("app_name", "2nd"),
    ("app_name", "büro"),
    ("app_name", ""),
    ("app_name", "two\nlines"),
    ("app_name", "a/b"),
    ("app_name", "a" * 31),
    ("app_name", "_private"),
    ("app_name", "__init__"),
    ("app_name", "class"),
    ("app_name", "match"),
    ("app_name", "json"),
    ("app_name", "django"),
    ("app_name", "celery"),
    ("app_name", "tasks"),
    ("app_name", "services"),
    ("app_name", "auth"),
    ("app_name", "my_project"),
    ("app_name", INJECTION),
    ("project_slug", "My-Project"),
    ("project_slug", ""),
    ("project_slug", "a/b"),
    ("project_slug", "../a"),
    ("project_slug", "/a"),
    ("project_slug", "test"),
    ("project_slug", "email"),
    ("project_slug", INJECTION),
]


def cli(
    folder: Path, *arguments: str, stdin: str = "", **env: str
) -> subprocess.CompletedProcess[str]:
    """Run cookiecutter as its users do."""
    return subprocess.run(
        [sys.executable, "-m", "cookiecutter", str(TEMPLATE), "-o", str(folder), *arguments],
        check=False,
        env=clean_environment() | env,
        input=stdin,
        capture_output=True,
        text=True,
    )


def files(folder: Path) -> dict[str, Path]:
    """Return the files below a folder by their relative path."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in paths}


def expected_paths(slug: str, app: str) -> list[str]:
    """Return the paths that a render with these names must have, according to git."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.check_output(command, cwd=PROJECT, text=True).split("\0")
    paths = {path for path in listed if (PROJECT / path).is_file()}
    # The hook makes .env, which is not in git.
    return sorted({*(in_render(path, slug, app) for path in paths), ".env"})


def in_render(path: str, slug: str, app: str) -> str:
    """Return the path that a file of the template has in a render."""
    path = path.replace("{{cookiecutter.project_slug}}", slug)
    return path.replace("{{cookiecutter.app_name}}", app)


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def template_files() -> dict[str, Path]:
    return files(PROJECT)


def test_exactly_the_files_in_git_are_rendered(project: Project) -> None:
    assert sorted(files(project.path)) == expected_paths("my_project", "myapp")


def test_no_file_is_empty_by_mistake(project: Project) -> None:
    empty = [path for path, file in files(project.path).items() if not file.stat().st_size]
    assert {Path(path).name for path in empty} == {"__init__.py", "__init__.py-tpl"}


@pytest.mark.parametrize("name", AWKWARD_PROJECT_NAMES)
def test_any_project_name_renders_and_appears_only_in_text(tmp_path: Path, name: str) -> None:
    project = render(tmp_path, project_name=name)
    rendered = files(project.path)
    assert sorted(rendered) == expected_paths(project.slug, "myapp")
    assert re.fullmatch("[a-z][a-z0-9_]{0,29}", project.slug)
    assert not list(tmp_path.rglob("pwned*"))
    # Django includes this file as HTML, and the README is Markdown.
    escaped = text(rendered.pop(f"{project.slug}/templates/project_name.txt"))
    assert html.unescape(escaped).strip() == name.strip()
    assert not set("<>{\"'") & set(escaped)
    assert name in text(rendered.pop("README.md"))
    assert not [path for path, file in rendered.items() if name in text(file)]


@pytest.mark.parametrize(("slug", "app"), AWKWARD_NAMES)
def test_awkward_names_render_the_same_paths(tmp_path: Path, slug: str, app: str) -> None:
    project = render(tmp_path, project_slug=slug, app_name=app)
    assert sorted(files(project.path)) == expected_paths(slug, app)


def test_a_bad_answer_is_rejected_on_the_command_line(tmp_path: Path) -> None:
    done = cli(tmp_path, "--no-input", "app_name=MyApp")
    assert done.returncode != 0
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("app_name 'MyApp' is ")
    assert done.stdout == "Nothing was created.\n"


@pytest.mark.parametrize(("question", "answer"), REJECTED)
def test_a_bad_answer_is_rejected_in_one_sentence_and_leaves_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], question: str, answer: str
) -> None:
    with pytest.raises(FailedHookException):
        render(tmp_path, **{question: answer})
    assert not list(tmp_path.iterdir())
    said = capfd.readouterr().err
    (sentence,) = [line for line in said.splitlines() if line.startswith(question)]
    assert sentence.startswith(f"{question} {answer!r} is ")
    assert re.search(r": choose [^.]+\.$", sentence)


def test_the_questions_are_readable_and_the_answers_make_a_project(tmp_path: Path) -> None:
    done = cli(tmp_path, stdin="Größe & Söhne\n\nshop\n")
    assert done.returncode == 0, done.stderr
    for question in ("shown on its pages", "folder and Python package", "first Django app"):
        assert question in done.stdout
    assert f"cd {tmp_path}/grosse_sohne\n    uv run honcho start web worker\n" in done.stdout
    assert "http://127.0.0.1:8000\n" in done.stdout
    assert sorted(files(tmp_path / "grosse_sohne")) == expected_paths("grosse_sohne", "shop")


def test_the_next_command_is_short_if_the_project_is_in_this_folder(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cookiecutter", str(TEMPLATE), "--no-input"],
        check=True,
        cwd=tmp_path,
        env=clean_environment() | {"PWD": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert "    cd my_project\n" in done.stdout


@pytest.mark.parametrize(("given", "port"), [("8010", "8010"), ("5000", "8000")])
def test_the_address_that_is_printed_has_the_port_that_will_be_used(
    tmp_path: Path, given: str, port: str
) -> None:
    assert f"http://127.0.0.1:{port}\n" in cli(tmp_path, "--no-input", PORT=given).stdout


def test_names_of_the_projects_own_files_are_rejected() -> None:
    names = set()
    for path in template_files().values():
        for part in (path, *path.parents):
            if part == PROJECT:
                break
            stem, *_ = part.name.split(".py")
            if "{{" in stem:
                pattern = re.compile(re.sub(r"{{.*}}", r"([a-z]\\w*)", stem))
                siblings = (sibling.name.split(".py")[0] for sibling in part.parent.iterdir())
                names |= {found[1] for found in map(pattern.fullmatch, siblings) if found}
    assert names >= {"jobs", "manage"}
    assert not {name for name in names if not problem_with(name)}


def test_names_of_dependencies_are_rejected(installed: Project) -> None:
    code = """
import importlib.metadata, json
from django.apps import apps
labels = [app.label for app in apps.get_app_configs()]
print(json.dumps([importlib.metadata.packages_distributions(), labels]))
"""
    done = installed.run("--quiet", "manage.py", "shell", "--verbosity=0", f"--command={code}")
    modules, labels = json.loads(done.stdout)

    pyproject = tomllib.loads(text(installed.path / "pyproject.toml"))
    requirements = [*pyproject["project"]["dependencies"]]
    requirements += [line for group in pyproject["dependency-groups"].values() for line in group]
    wanted = {re.match(r"[\w-]+", line)[0] for line in requirements}  # type: ignore[index]
    names = {
        module
        for module, packages in modules.items()
        if module.isidentifier() and wanted & {package.lower() for package in packages}
    }
    assert names >= {"django", "procrastinate", "pytest"}

    names |= set(labels) - {installed.app}
    assert not {name for name in names if not problem_with(name)}


def test_two_renders_are_the_same_to_the_byte(project: Project, tmp_path: Path) -> None:
    def content(rendered: Project) -> dict[str, tuple[bytes, int]]:
        return {
            path: (file.read_bytes(), file.stat().st_mode)
            for path, file in files(rendered.path).items()
        }

    assert content(render(tmp_path)) == content(project)


def test_nothing_of_the_template_is_left(tmp_path: Path) -> None:
    project = render(tmp_path, project_name="Zebra", project_slug="zebra", app_name="aa")
    traces = re.compile(r"cookiecutter|my.?project|myapp|\{\{|\{%", re.IGNORECASE)
    found = {
        (path, trace)
        for path, file in files(project.path).items()
        for trace in traces.findall(text(file))
    }
    # Braces of Django, in files that cookiecutter.json copies unrendered.
    found -= {
        (path, brace)
        for path, _ in found
        for brace in ("{{", "{%")
        if path.endswith((".html", ".png", ".py-tpl"))
    }
    assert not found


def test_django_templates_are_copied_unrendered(project: Project) -> None:
    copied = {
        in_render(path, project.slug, project.app): file
        for path, file in template_files().items()
        if file.suffix in {".html", ".css", ".py-tpl"}
    }
    assert any("{{ " in text(file) for file in copied.values())
    for path, file in copied.items():
        assert text(project.path / path) == text(file)
        assert "cookiecutter" not in text(file)


def test_python_files_have_no_jinja_tags() -> None:
    python = [file for path, file in template_files().items() if path.endswith(".py")]
    assert python
    assert not [file for file in python if "{%" in text(file)]


def test_env_is_made_once_and_is_not_in_git(tmp_path: Path) -> None:
    for slug, app in [("my_project", "myapp"), *AWKWARD_NAMES]:
        path = render(tmp_path, project_slug=slug, app_name=app).path
        assert text(path / ".env") == text(path / ".env.example")
        for command in (["init", "--quiet"], ["add", "--all"]):
            subprocess.run(["git", *command], cwd=path, check=True)
        added = subprocess.check_output(["git", "ls-files"], cwd=path, text=True).split()
        assert sorted([*added, ".env"]) == expected_paths(slug, app)

    (path / ".env").write_text("PORT=9000\n")
    assert (
        cli(tmp_path, "--no-input", "-f", f"project_slug={slug}", f"app_name={app}").returncode == 0
    )
    assert text(path / ".env") == "PORT=9000\n"


@pytest.mark.parametrize(("slug", "app"), [("my_project", "myapp"), *AWKWARD_NAMES])
def test_lint_and_format_are_clean(tmp_path: Path, slug: str, app: str) -> None:
    project = render(tmp_path, project_slug=slug, app_name=app)
    for command in (["check"], ["format", "--check", "--diff"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", "."],
            check=False,
            cwd=project.path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("slug", "app"),
    [
        ("my_project", "myapp"),
        *(pytest.param(*names, marks=pytest.mark.slow) for names in AWKWARD_NAMES),
    ],
)
def test_types_are_clean(
    stack: Stack, mypy_cache: dict[str, str], tmp_path: Path, slug: str, app: str
) -> None:
    project = stack.lend(render(tmp_path, project_slug=slug, app_name=app))
    project.env |= mypy_cache
    assert "Success: no issues found" in project.run("mypy", ".").stdout


def test_no_file_names_a_package_index(project: Project) -> None:
    hosts = re.compile(r"pypi\.(?:org|python)|pythonhosted|registry\.npm|/simple\b", re.IGNORECASE)
    own = (TEMPLATE / name for name in ("README.md", "Makefile", "pyproject.toml"))
    everything = [*files(project.path).values(), *own, *files(TEMPLATE / "scripts").values()]
    assert not [path for path in everything if hosts.search(text(path))]


def test_rendering_needs_no_network(tmp_path: Path) -> None:
    offline = ["unshare", "--map-root-user", "--net"]
    if not shutil.which("unshare") or subprocess.run([*offline, "true"], check=False).returncode:
        pytest.skip("a network namespace needs Linux, and permission")
    template = [sys.executable, "-m", "cookiecutter", str(TEMPLATE), "--no-input"]
    subprocess.run([*offline, *template, "-o", str(tmp_path)], check=True, env=clean_environment())
    assert sorted(files(tmp_path / "my_project")) == expected_paths("my_project", "myapp")


def test_a_change_is_shown_as_the_user_gets_it(tmp_path: Path) -> None:
    clone = tmp_path / "template"
    subprocess.run(["git", "clone", "--quiet", str(TEMPLATE), str(clone)], check=True)
    shutil.copy(TEMPLATE / "Makefile", clone)
    shutil.copytree(TEMPLATE / "scripts", clone / "scripts", dirs_exist_ok=True)
    settings = clone / PROJECT.name / PROJECT.name / "settings.py"
    settings.write_text(text(settings).replace('LANGUAGE_CODE = "en-us"', 'LANGUAGE_CODE = "de"'))

    def diff(base: str) -> subprocess.CompletedProcess[str]:
        command = ["make", "--no-print-directory", "render-diff", f"BASE={base}"]
        env = clean_environment() | {"UV": find_uv()}
        env["PATH"] = f"{Path(find_uv()).parent}{os.pathsep}{env['PATH']}"
        return subprocess.run(
            command, check=False, cwd=clone, env=env, capture_output=True, text=True
        )

    done = diff("HEAD")
    assert done.returncode == 0, done.stderr
    assert re.findall("^[-+].+$", done.stdout, re.MULTILINE) == [
        "--- a/before/my_project/my_project/settings.py",
        "+++ b/after/my_project/my_project/settings.py",
        '-LANGUAGE_CODE = "en-us"',
        '+LANGUAGE_CODE = "de"',
    ]
    wrong = diff("nowhere")
    assert wrong.returncode
    assert "BASE must be a commit" in wrong.stderr
