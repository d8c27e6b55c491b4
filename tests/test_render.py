"""What comes out of the template: which files, for which answers, and how clean they are."""

import ast
import html
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import TEMPLATE, Project, clean_environment, render
from cookiecutter.environment import StrictEnvironment

PROJECT = TEMPLATE / "{{cookiecutter.project_slug}}"

PATHS = [
    ".env",
    ".env.example",
    ".gitignore",
    "Procfile",
    "Procfile.dev",
    "README.md",
    "app_template/__init__.py",
    "app_template/app/app_name/__init__.py-tpl",
    "app_template/app/app_name/admin.py-tpl",
    "app_template/app/app_name/apps.py-tpl",
    "app_template/app/app_name/forms.py-tpl",
    "app_template/app/app_name/migrations/0001_initial.py-tpl",
    "app_template/app/app_name/migrations/__init__.py-tpl",
    "app_template/app/app_name/models.py-tpl",
    "app_template/app/app_name/services.py-tpl",
    "app_template/app/app_name/tasks.py-tpl",
    "app_template/app/app_name/templates/app_name/index.html",
    "app_template/app/app_name/urls.py-tpl",
    "app_template/app/app_name/views.py-tpl",
    "app_template/app/tasks/app_name.py-tpl",
    "app_template/app/tests/test_app_name.py-tpl",
    "app_template/apps.py",
    "app_template/checks.py",
    "app_template/management/__init__.py",
    "app_template/management/commands/__init__.py",
    "app_template/management/commands/startapp.py",
    "app_template/wiring.py",
    "devdb/__init__.py",
    "devdb/management/__init__.py",
    "devdb/management/commands/__init__.py",
    "devdb/management/commands/devdb.py",
    "devdb/management/commands/runworker.py",
    "devdb/server.py",
    "devdb/system.py",
    "devdb/templates/devdb/login.html",
    "devdb/urls.py",
    "devdb/views.py",
    "docs/import.png",
    "gunicorn.conf.py",
    "jobs/__init__.py",
    "jobs/admin.py",
    "jobs/apps.py",
    "jobs/bridge.py",
    "jobs/checks.py",
    "jobs/failures.py",
    "jobs/logs.py",
    "jobs/management/__init__.py",
    "jobs/management/commands/__init__.py",
    "jobs/management/commands/check_workers.py",
    "jobs/migrations/0001_initial.py",
    "jobs/migrations/0002_indexes_and_statistics.py",
    "jobs/migrations/__init__.py",
    "jobs/models.py",
    "jobs/retry.py",
    "jobs/stats.py",
    "jobs/templates/jobs/queues.html",
    "jobs/urls.py",
    "jobs/views.py",
    "manage.py",
    "my_project/__init__.py",
    "my_project/asgi.py",
    "my_project/context_processors.py",
    "my_project/middleware.py",
    "my_project/settings.py",
    "my_project/urls.py",
    "my_project/wsgi.py",
    "myapp/__init__.py",
    "myapp/admin.py",
    "myapp/apps.py",
    "myapp/contacts_csv.py",
    "myapp/forms.py",
    "myapp/migrations/0001_initial.py",
    "myapp/migrations/__init__.py",
    "myapp/models.py",
    "myapp/services.py",
    "myapp/tasks.py",
    "myapp/templates/contacts/contacts.html",
    "myapp/templates/contacts/imports.html",
    "myapp/templates/contacts/index.html",
    "myapp/templates/contacts/panel.html",
    "myapp/urls.py",
    "myapp/views.py",
    "pyproject.toml",
    "static/icon.svg",
    "static/jobs.css",
    "static/site.css",
    "static/time-zone.js",
    "tasks/__init__.py",
    "tasks/maintenance.py",
    "tasks/myapp.py",
    "templates/400.html",
    "templates/403.html",
    "templates/403_csrf.html",
    "templates/404.html",
    "templates/500.html",
    "templates/admin/base_site.html",
    "templates/base.html",
    "templates/blank.html",
    "templates/error.html",
    "templates/project_name.txt",
    "tests/__init__.py",
    "tests/conftest.py",
    "tests/kit.py",
    "tests/test_bridge.py",
    "tests/test_contacts_csv.py",
    "tests/test_failures.py",
    "tests/test_imports.py",
    "tests/test_jobs_admin.py",
    "tests/test_jobs_views.py",
    "tests/test_kit.py",
    "tests/test_logs.py",
    "tests/test_maintenance.py",
    "tests/test_pages.py",
    "tests/test_retry.py",
    "tests/test_services.py",
    "tests/test_views.py",
    "tests/test_worker.py",
    "tests/test_worker_settings.py",
    "users/__init__.py",
    "users/admin.py",
    "users/migrations/0001_initial.py",
    "users/migrations/__init__.py",
    "users/models.py",
    "users/templates/registration/form.html",
    "users/templates/registration/login.html",
    "users/templates/registration/password_change_done.html",
    "users/templates/registration/password_change_form.html",
    "users/templates/registration/password_reset_complete.html",
    "users/templates/registration/password_reset_confirm.html",
    "users/templates/registration/password_reset_done.html",
    "users/templates/registration/password_reset_form.html",
]

AWKWARD_PROJECT_NAMES = [
    """It's "quoted" \\ 'twice' \\n""",
    "<script>alert(1)</script> & Söhne",
    "🎉",
    "$(id) `id` ${HOME} %(name)s {0} --- #",
    '"); import os; os.mkdir("pwned") #',
    "Long " * 40,
]

# Slug and app: before and after every other name in the order of imports, and as long as can be.
AWKWARD_NAMES = [
    ("zebra", "aa"),
    ("aardvark", "zoo"),
    ("a_project_name_of_thirty_chars", "extraordinarily_long_app_names"),
]

INJECTION = '"; import os; os.mkdir("pwned") #'

REFUSED = [
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
    ("app_name", "auth"),
    ("app_name", "my_project"),
    ("app_name", INJECTION),
    ("project_slug", "My-Project"),
    ("project_slug", "test"),
    ("project_slug", "email"),
    ("project_slug", INJECTION),
]


def cli(folder: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run cookiecutter as its users do."""
    return subprocess.run(
        [sys.executable, "-m", "cookiecutter", str(TEMPLATE), "-o", str(folder), *arguments],
        check=False,
        env=clean_environment(),
        input=stdin,
        capture_output=True,
        text=True,
    )


def files(folder: Path) -> dict[str, Path]:
    """Return the files below a folder by their relative path."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in paths}


def named(slug: str, app: str) -> list[str]:
    """Return the paths that a render with these names has."""
    return sorted(path.replace("my_project", slug).replace("myapp", app) for path in PATHS)


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def template_files() -> dict[str, Path]:
    return files(PROJECT)


def test_the_default_answers_render_exactly_these_paths(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    rendered = files(project.path)
    assert sorted(rendered) == sorted(PATHS)

    python = [path for path in rendered.values() if path.suffix == ".py"]
    lines = sum(len(text(path).splitlines()) for path in python)
    with capsys.disabled():
        print(f"\nrendered: {len(rendered)} files, {len(python)} of Python with {lines} lines")


def test_a_reader_can_take_in_all_that_keeps_the_queue(project: Project) -> None:
    folders = (project.path / "jobs", project.path / "jobs" / "management" / "commands")
    modules = [path for folder in folders for path in folder.glob("*.py") if text(path)]
    modules.append(project.path / "tasks" / "maintenance.py")
    statements = [
        node
        for path in modules
        for node in ast.walk(ast.parse(text(path)))
        if isinstance(node, ast.stmt) and not isinstance(node, ast.Import | ast.ImportFrom)
        # A docstring is no code.
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
    ]
    assert len(statements) < 600
    assert len(modules) <= 14


@pytest.mark.parametrize("name", AWKWARD_PROJECT_NAMES)
def test_any_project_name_renders_and_reaches_only_text(tmp_path: Path, name: str) -> None:
    project = render(tmp_path, project_name=name)
    rendered = files(project.path)
    assert sorted(rendered) == named(project.slug, "myapp")
    assert re.fullmatch("[a-z][a-z0-9_]{0,29}", project.slug)
    assert not list(tmp_path.rglob("pwned*"))
    # Django includes the one as HTML; Markdown shows the other.
    escaped = text(rendered.pop("templates/project_name.txt"))
    assert html.unescape(escaped).strip() == name.strip()
    assert not set("<>{\"'") & set(escaped)
    assert name in text(rendered.pop("README.md"))
    assert not [path for path, file in rendered.items() if name in text(file)]


@pytest.mark.parametrize(("slug", "app"), AWKWARD_NAMES)
def test_awkward_names_render_the_same_paths(tmp_path: Path, slug: str, app: str) -> None:
    project = render(tmp_path, project_slug=slug, app_name=app)
    assert sorted(files(project.path)) == named(slug, app)


@pytest.mark.parametrize(("question", "answer"), REFUSED)
def test_a_bad_answer_is_refused_in_one_sentence_and_leaves_nothing(
    tmp_path: Path, question: str, answer: str
) -> None:
    done = cli(tmp_path, "--no-input", f"{question}={answer}")
    assert done.returncode != 0
    assert not list(tmp_path.iterdir())
    (sentence,) = [line for line in done.stderr.splitlines() if line.startswith(question)]
    assert sentence.startswith(f"{question} {answer!r} is ")
    assert re.search(r": choose [^.]+\.$", sentence)


def test_the_questions_are_human_and_the_answers_start_a_project(tmp_path: Path) -> None:
    done = cli(tmp_path, stdin="Größe & Söhne\n\nshop\n")
    assert done.returncode == 0, done.stderr
    for question in ("name, as people read it", "folder and Python package", "first Django app"):
        assert question in done.stdout
    assert f"cd {tmp_path}/grosse_sohne\n    uv run honcho start web worker\n" in done.stdout
    assert "http://127.0.0.1:8000" in done.stdout
    assert sorted(files(tmp_path / "grosse_sohne")) == named("grosse_sohne", "shop")


def test_the_line_to_type_next_is_short_where_the_project_is_below(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cookiecutter", str(TEMPLATE), "--no-input"],
        check=True,
        cwd=tmp_path,
        env=clean_environment() | {"PWD": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert "    cd my_project\n" in done.stdout


def refused(name: str) -> bool:
    """Ask the hook itself, which is quicker than a render."""
    hook = StrictEnvironment().from_string(text(TEMPLATE / "hooks/pre_gen_project.py"))
    code = hook.render(cookiecutter={"project_slug": "my_project", "app_name": name})
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    return done.returncode != 0


def test_names_of_the_projects_own_files_are_refused() -> None:
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
    assert not {name for name in names if not refused(name)}


def test_names_of_what_the_project_depends_on_are_refused(installed: Project) -> None:
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
    assert not {name for name in names if not refused(name)}


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
    # Django's own: what cookiecutter.json copies as it is.
    found -= {
        (path, brace)
        for path, _ in found
        for brace in ("{{", "{%")
        if path.endswith((".html", ".png", ".py-tpl"))
    }
    assert not found


def test_what_django_renders_is_copied_as_it_is(project: Project) -> None:
    copied = {
        path.replace("{{cookiecutter.app_name}}", project.app): file
        for path, file in template_files().items()
        if file.suffix in {".html", ".css", ".py-tpl"}
    }
    assert any("{{ " in text(file) for file in copied.values())
    for path, file in copied.items():
        assert text(project.path / path) == text(file)
        assert "cookiecutter" not in text(file)


def test_few_files_of_the_template_are_jinja() -> None:
    contents = {path: text(file) for path, file in template_files().items()}
    assert len([path for path in contents if "cookiecutter." in contents[path]]) <= 17
    assert not [path for path in contents if path.endswith(".py") and "{%" in contents[path]]


def test_env_is_there_stays_the_users_and_out_of_git(tmp_path: Path) -> None:
    for slug, app in [("my_project", "myapp"), *AWKWARD_NAMES]:
        path = render(tmp_path, project_slug=slug, app_name=app).path
        assert text(path / ".env") == text(path / ".env.example")
        for command in (["init", "--quiet"], ["add", "--all"]):
            subprocess.run(["git", *command], cwd=path, check=True)
        added = subprocess.check_output(["git", "ls-files"], cwd=path, text=True).split()
        assert sorted([*added, ".env"]) == named(slug, app)

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
        ("zebra", "aa"),
        *(pytest.param(*names, marks=pytest.mark.slow) for names in AWKWARD_NAMES[1:]),
    ],
)
def test_types_are_clean(installed: Project, tmp_path: Path, slug: str, app: str) -> None:
    project = render(tmp_path, project_slug=slug, app_name=app)
    # Its settings are imported: they name what the virtual environment of any render has.
    project.env |= {"UV_PROJECT_ENVIRONMENT": str(installed.path / ".venv")}
    project.env |= {"MYPY_CACHE_DIR": str(installed.path / ".mypy_cache")}
    assert "Success: no issues found" in project.run("--no-sync", "mypy", ".").stdout


def test_no_file_names_a_package_index(project: Project) -> None:
    hosts = re.compile(r"pypi\.(?:org|python)|pythonhosted|registry\.npm|/simple\b", re.IGNORECASE)
    own = (TEMPLATE / name for name in ("README.md", "Makefile", "pyproject.toml"))
    everything = [*files(project.path).values(), *own, *files(TEMPLATE / "scripts").values()]
    assert not [path for path in everything if hosts.search(text(path))]


def test_rendering_needs_no_network(tmp_path: Path) -> None:
    offline = ["unshare", "--map-root-user", "--net"]
    if not shutil.which("unshare") or subprocess.run([*offline, "true"], check=False).returncode:
        pytest.skip("no network namespace can be made here: that takes Linux and the right to")
    template = [sys.executable, "-m", "cookiecutter", str(TEMPLATE), "--no-input"]
    subprocess.run([*offline, *template, "-o", str(tmp_path)], check=True, env=clean_environment())
    assert sorted(files(tmp_path / "my_project")) == sorted(PATHS)
