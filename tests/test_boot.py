"""The rendered project, started as its users start it, until a job has done its work."""

import json
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from browser import Database
from conftest import (
    Browse,
    Project,
    Stack,
    Start,
    both_stacks,
    free_port,
    render,
    stop,
    wait_until,
)
from contacts_file import make_contacts_file
from documents import run, section, workflow
from site_at_work import (
    DEVELOPMENT,
    VARIABLES,
    block_import,
    database_of,
    press_ctrl_c,
    start_site,
    workers,
)

PRODUCTION = ("honcho", "-e", ".env.production", "-f", "Procfile", "start", "web", "worker")
WORKER = ("procrastinate", "--app=tasks.app", "worker")


@both_stacks
@pytest.mark.timeout(300)
def test_an_upload_becomes_contacts_and_survives_ctrl_c(
    site: Project, start: Start, browse: Browse
) -> None:
    # There is no database, as on the first day.
    stop(site)
    running, browser = start_site(site, start, browse)
    assert "Log in as developer" in browse(site.port).get("/admin/")
    database = database_of(site)
    file = make_contacts_file(10_000)

    seen = []
    with block_import(database, 3_000) as first, block_import(database, 6_000) as second:
        browser.upload("people.csv", file.content)
        for release in (first, second):
            wait_until(database.blocked)
            seen.append(browser.progress() or 0)
            release()
            wait_until(lambda: not database.blocked() or browser.progress() != seen[-1])
    wait_until(lambda: "Done" in browser.get("/imports/"))
    assert browser.progress() is None
    assert 0 < seen[0] < seen[1] < 100

    done = database.last_import()
    (worker,) = database.query("SELECT id FROM procrastinate_workers")
    assert (done["status"], done["worker_id"], done["attempts"]) == ("succeeded", worker["id"], 1)
    assert len(workers(site)) == 1
    assert (done["imported"], done["rejected"]) == (file.good, len(file.bad))
    rejected = database.query("SELECT line FROM app_rejectedrow ORDER BY line")
    assert [row["line"] for row in rejected] == file.bad
    assert database.contacts() == file.contacts
    assert not database.query("SELECT 1 FROM app_importpiece")
    running.wait_for("Subject: Contacts imported: people.csv")
    wait_until(lambda: database.last_import()["summary_sent_at"])

    long = make_contacts_file(50_000, "other")
    browser.upload("long.csv", long.content)
    wait_until(lambda: browser.progress())
    press_ctrl_c(running, site)
    stopped = database.last_import()
    assert stopped["status"] == "todo"
    assert 0 < stopped["imported"] < long.good

    running, _ = start_site(site, start, browse)
    wait_until(lambda: database.last_import()["finished_at"], 60)
    done = database.last_import()
    assert (done["imported"], done["rejected"]) == (long.good, len(long.bad))
    assert database.contacts() == file.contacts | long.contacts
    press_ctrl_c(running, site)


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_the_worker_restarts_when_it_must(site: Project, start: Start, browse: Browse) -> None:
    running, browser = start_site(site, start, browse)
    # The database goes away and comes back.
    site.run("manage.py", "devdb", "stop")
    running.wait_for("The worker ended", 60)
    site.run("manage.py", "devdb", "up")
    file = make_contacts_file(1_000)
    browser.upload("people.csv", file.content)
    wait_until(lambda: "Done" in browser.get("/imports/"), 60)
    assert database_of(site).contacts() == file.contacts

    # The code changes.
    def starts() -> int:
        return running.output.count("Starting worker on all queues")

    def change(number: int) -> None:
        before = starts()
        task.write_text(f"{text}# change {number}\n")
        wait_until(lambda: starts() > before, what="a new worker")

    (first,) = workers(site)
    task = site.path / "jobs" / "upkeep.py"
    text = task.read_text()
    # The web restarts too, because its checks read the tasks. It looks for changes once a second,
    # so it may miss one change, but not all three.
    try:
        for number in (1, 2, 3):
            change(number)
        wait_until(lambda: running.output.count("Quit the server") >= 2, what="a new web")
    finally:
        task.write_text(text)
    assert not first.is_running()
    assert "The code changed: restarting the worker." in running.output
    assert running.interrupt() == 130
    assert not site.processes()


@pytest.mark.parametrize(
    ("options", "variables", "port"),
    [
        ((), {}, 8000),
        ((), {"PORT": "8010"}, 8010),
        (("-p", "8011"), {}, 8011),
        (("-p", "8011"), {"PORT": "8010"}, 8011),
    ],
)
def test_the_port_is_the_one_that_honcho_is_given(
    stack: Stack,
    project: Project,
    tmp_path: Path,
    options: tuple[str, ...],
    variables: dict[str, str],
    port: int,
) -> None:
    for name in (".env", "Procfile.dev"):
        shutil.copy(project.path / name, tmp_path)
    # Shows its arguments instead of serving on a port that may be in use.
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    done = subprocess.run(
        [stack.venv / "bin" / "honcho", "start", *options, "web"],
        check=True,
        cwd=tmp_path,
        env=project.env | variables | {"PATH": f"{python.parent}:{project.env['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert f"| manage.py runserver {port}\n" in done.stdout


def test_a_port_in_use_is_reported_in_one_sentence(site: Project, start: Start) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        running = start(site, "honcho", "start", "-p", str(port), "web", "worker")
        assert running.process.wait(60) != 0
    assert "Error: That port is already in use." in running.output
    assert "Traceback" not in running.output
    assert not site.processes()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_job_that_does_not_stop_is_put_back_and_runs_again(
    site: Project, start: Start, browse: Browse
) -> None:
    running, browser = start_site(site, start, browse)
    database = database_of(site)
    file = make_contacts_file(2_000)
    with block_import(database, 1_000):
        browser.upload("people.csv", file.content)
        wait_until(database.blocked)
        press_ctrl_c(running, site)
        assert database.last_import()["status"] == "todo"
    running, _ = start_site(site, start, browse)
    wait_until(lambda: database.last_import()["finished_at"], 120)
    done = database.last_import()
    assert (done["imported"], done["rejected"]) == (file.good, len(file.bad))
    assert done["attempts"] == 2
    assert database.contacts() == file.contacts
    press_ctrl_c(running, site)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_workflow_passes_in_a_clone(
    site: Project, tmp_path: Path, system_postgres: str
) -> None:
    clone = Project(tmp_path / "clone", site.slug, site.app)
    clone.env["UV_PYTHON"] = site.env["UV_PYTHON"]
    for command in ("init -q", "add -A", f"checkout-index -a --prefix={clone.path}/"):
        subprocess.run(["git", *command.split()], cwd=site.path, check=True)
    shutil.rmtree(site.path / ".git")

    (copy,) = re.findall(r"`(cp .+?)`", section(clone, "README.md", "Start"))
    assert f"`{copy}`" in clone.run("manage.py", "check", check=False).stdout
    job = workflow(clone)["jobs"]["test"]
    (variable,) = job["env"]
    for step in job["steps"]:
        if "run" in step:
            run(clone, step["run"], **{variable: system_postgres})
    assert "Not running" in clone.run("manage.py", "devdb", "status").stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_another_postgresql_can_be_used(
    site: Project, start: Start, browse: Browse, system_postgres: str
) -> None:
    site.run("manage.py", "devdb", "stop")
    own = {"DATABASE_URL": system_postgres}

    running = start(site, *DEVELOPMENT, **own)
    running.wait_for("Starting worker on all queues", 60)
    assert "No staff user can log in yet: run `uv run manage.py createsuperuser`." in running.output
    create = ("manage.py", "createsuperuser", "--no-input", "--username=ann", "--email=a@b.org")
    site.run(*create, **own, DJANGO_SUPERUSER_PASSWORD="correct horse")
    browser = browse(site.port)
    wait_until(browser.is_up, what="the site")
    assert "Log in as developer" not in browser.get("/accounts/login/")
    browser.log_in("ann", "correct horse")
    file = make_contacts_file(1_000)
    browser.upload("people.csv", file.content)
    wait_until(lambda: "Done" in browser.get("/imports/"))
    assert Database(system_postgres, site.app).contacts() == file.contacts
    press_ctrl_c(running, site)
    assert "Not running" in site.run("manage.py", "devdb", "status").stdout


@pytest.fixture
def production(site: Project, mail_server: Controller) -> dict[str, str]:
    """The variables of production, in .env.production."""
    variables = VARIABLES | {
        "DATABASE_URL": database_of(site).url,
        "EMAIL_URL": f"smtp://127.0.0.1:{mail_server.port}",
        "PORT": str(free_port()),
    }
    lines = [f"{name}={value}\n" for name, value in variables.items()]
    (site.path / ".env.production").write_text("".join(lines))
    return variables


@both_stacks
@pytest.mark.timeout(300)
def test_production_imports_contacts(
    site: Project,
    start: Start,
    browse: Browse,
    production: dict[str, str],
    mail_server: Controller,
) -> None:
    off = production | {"DEBUG": "off"}
    site.run("manage.py", "collectstatic", "--no-input", **off)
    site.run("manage.py", "migrate", **off)
    create = ("manage.py", "createsuperuser", "--no-input", "--username=ann", "--email=a@b.org")
    site.run(*create, **off, DJANGO_SUPERUSER_PASSWORD="correct horse")

    running = start(site, *PRODUCTION)
    browser = browse(int(production["PORT"]), proxy=True)
    wait_until(lambda: browser.is_up() or running.process.poll() is not None, 60, "the site")
    running.wait_for("Starting worker on all queues")
    assert "Listening at: http://0.0.0.0:" + production["PORT"] in running.output

    page = browser.get("/accounts/login/")
    assert "Log in as developer" not in page
    assert browser.client.post("/accounts/login/developer/").status_code == 404
    assert "DEBUG" not in browser.client.get("/nothing/").text
    (style,) = set(re.findall(r'href="(/static/site\.\w+\.css)"', page))
    assert "max-age=315360000" in browser.client.get(style).headers["Cache-Control"]
    plain = browse(int(production["PORT"])).client.get("/", follow_redirects=False)
    assert plain.headers["Location"].startswith("https://")

    browser.log_in("ann", "correct horse")
    assert browser.client.cookies.jar
    assert all(cookie.secure for cookie in browser.client.cookies.jar)
    file = make_contacts_file(10_000)
    browser.upload("people.csv", file.content)
    database = database_of(site)
    wait_until(lambda: database.last_import()["summary_sent_at"], 60)
    assert database.contacts() == file.contacts
    assert mail_server.handler.subjects == ["Contacts imported: people.csv"]
    press_ctrl_c(running, site)


@pytest.mark.parametrize("missing", ["SECRET_KEY", "DATABASE_URL", "ALLOWED_HOSTS", "EMAIL_URL"])
def test_production_does_not_start_without_a_variable(
    site: Project, start: Start, missing: str
) -> None:
    lines = [f"{name}={value}\n" for name, value in VARIABLES.items() if name != missing]
    (site.path / ".env.production").write_text("".join(lines))
    assert "DEBUG=on" in (site.path / ".env").read_text()

    running = start(site, *PRODUCTION)
    assert running.process.wait(30) != 0
    sentence = f"Environment variables invalid: {{'{missing}': ['Environment variable not set.']}}"
    assert sentence in running.output
    assert "Traceback" not in running.output
    assert not site.processes()


def test_a_clone_without_env_starts_nothing_and_says_what_to_do(
    editable: Project, start: Start
) -> None:
    (editable.path / ".env").unlink()
    running = start(editable, *DEVELOPMENT)
    assert running.process.wait(30) != 0
    assert "Traceback" not in running.output
    assert not editable.processes()
    (copy,) = set(re.findall("There is no .env: .*`(.+?)`", running.output))

    # In production, with a variable missing.
    done = editable.run("manage.py", "check", check=False, ALLOWED_HOSTS="www.example.com")
    assert "'SECRET_KEY': ['Environment variable not set.']" in done.stdout
    assert copy not in done.stdout

    subprocess.run(copy, shell=True, cwd=editable.path, check=True)
    editable.run("manage.py", "check")


# As the documentation prints it.
COLLECTSTATIC = "DEBUG=off python manage.py collectstatic --no-input"


@pytest.mark.parametrize("place", ["image", "checkout"])
def test_static_files_are_collected_without_secrets(
    stack: Stack, editable: Project, place: str
) -> None:
    assert any(COLLECTSTATIC in path.read_text() for path in editable.path.rglob("*.md"))
    if place == "image":
        (editable.path / ".env").unlink()
    path = f"{stack.venv}/bin:{os.environ['PATH']}"
    subprocess.run(COLLECTSTATIC, shell=True, check=True, cwd=editable.path, env={"PATH": path})
    files = editable.path / "staticfiles"
    manifest = json.loads((files / "staticfiles.json").read_text())
    assert (files / manifest["paths"]["site.css"]).exists()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SECRET_KEY", "short"),
        ("SECRET_KEY", "django-insecure-key-of-development-which-production-refuses"),
        ("DATABASE_URL", "mysql://localhost/site"),
        ("SECRET_KEY_FALLBACKS", "short"),
        ("DATABASE_URL", ""),
        ("DATABASE_URL", "postgresql://localhost/site?pgbouncer=true"),
        ("WORKER_DATABASE_URL", "postgresql://ann:pass#word@localhost/site"),
        ("ALLOWED_HOSTS", "*"),
        ("ALLOWED_HOSTS", "example.com, https://www.example.com"),
        ("CSRF_TRUSTED_ORIGINS", "https://example.com, www.example.com"),
        ("EMAIL_URL", "nonsense"),
        ("ALERTS_TO", "nonsense"),
        ("DEBUG", "perhaps"),
        ("PROCRASTINATE_WORKER_CONCURRENCY", "many"),
    ],
)
def test_a_wrong_variable_is_reported(installed: Project, variable: str, value: str) -> None:
    check_error(installed, ("manage.py", "check"), variable, value)


def test_lists_may_have_spaces(installed: Project) -> None:
    lists = {
        "ALLOWED_HOSTS": "example.com, www.example.com",
        "CSRF_TRUSTED_ORIGINS": "https://example.com, https://www.example.com",
        "SECRET_KEY_FALLBACKS": f"{'a' * 50}, {'b' * 50}",
    }
    names = ", ".join(f"settings.{name}" for name in lists)
    code = f"import json; from django.conf import settings; print(json.dumps([{names}]))"
    shown = installed.run(
        "--quiet", "manage.py", "shell", "-v0", "-c", code, **VARIABLES | lists
    ).stdout
    assert json.loads(shown) == [value.split(", ") for value in lists.values()]


@pytest.mark.parametrize(
    "command",
    [("gunicorn", "my_project.wsgi"), WORKER, ("pytest",), ("mypy", ".")],
    ids=lambda command: command[0],
)
def test_every_command_reports_a_wrong_variable(
    installed: Project, command: tuple[str, ...]
) -> None:
    check_error(installed, command, "SECRET_KEY", "short")


def test_ctrl_c_ends_a_command_without_a_traceback(installed: Project) -> None:
    done = installed.run("manage.py", "shell", "-c", "raise KeyboardInterrupt", check=False)
    assert done.returncode == 130
    assert "Traceback" not in done.stdout


def test_a_reader_that_stops_reading_causes_no_traceback(installed: Project) -> None:
    command = "python manage.py shell -v0 -c 'for n in range(100_000): print(n)' | head -1"
    assert installed.run("--quiet", "sh", "-c", command).stdout == "0\n"


def check_error(project: Project, command: tuple[str, ...], variable: str, value: str) -> None:
    """Check that a command ends with one sentence that names the wrong variable."""
    wrong = VARIABLES | {"DEBUG": "off", "PYTHONPATH": ".", variable: value}
    done = project.run(*command, check=False, **wrong)
    assert done.returncode != 0
    (sentence,) = [line for line in done.stdout.splitlines() if "Environment variables" in line]
    assert variable in sentence
    assert "Traceback" not in done.stdout


@both_stacks
@pytest.mark.timeout(600)
def test_the_projects_own_checks_are_clean(site: Project, production: dict[str, str]) -> None:
    assert "passed" in site.run("pytest", "-n", "auto").stdout
    site.run("manage.py", "check")
    site.run("manage.py", "makemigrations", "--check")
    deploy = ("manage.py", "check", "--deploy", "--fail-level", "WARNING")
    site.run(*deploy, **production, DEBUG="off")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_lowest_versions_work(stack: Stack, tmp_path: Path) -> None:
    project = render(tmp_path)
    project.env |= {"UV_RESOLUTION": "lowest-direct", "UV_PYTHON": stack.python}
    try:
        assert " passed" in project.run("pytest").stdout
        lowest = project.run("--quiet", "python", "-c", "import django; print(django.__version__)")
        assert lowest.stdout.strip() == "5.2"
    finally:
        project.run("manage.py", "devdb", "stop")
