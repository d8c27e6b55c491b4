"""The files for deploying: valid, and in step with the Procfile and the settings."""

import re
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import yaml
from browser import Browser, Database
from conftest import Project, Start, free_port, skip_or_fail, wait_until
from documents import blocks, commands, run, section
from site_at_work import database_of

DEPLOY = "docs/deploy.md"
CERTIFICATE = "caddy/pki/authorities/local/root.crt"


def procfile(project: Project) -> dict[str, tuple[dict[str, str], list[str]]]:
    """Return the variables and the command of each process."""
    found = {}
    for line in (project.path / "Procfile").read_text().splitlines():
        name, _, rest = line.partition(": ")
        words = rest.split()
        variables = {word.split("=")[0]: word.split("=")[1] for word in words if word[0].isupper()}
        found[name] = variables, words[len(variables) :]
    return found


def compose(project: Project) -> dict[str, Any]:
    """Return the services of compose.yaml."""
    services: dict[str, Any] = yaml.safe_load((project.path / "compose.yaml").read_text())
    return services["services"]  # type: ignore[no-any-return]


def seconds(project: Project, file: str, name: str) -> float:
    """Return a number that is set in a Python file."""
    (number,) = re.findall(rf'{name}"?[:=] ?([\d.]+)', (project.path / file).read_text())
    return float(number)


def longest_end(project: Project) -> float:
    """Return the seconds that a process may need to end, with a reserve."""
    worker = seconds(project, "jobs/worker.py", "shutdown_graceful_timeout")
    web = seconds(project, "gunicorn.conf.py", "graceful_timeout ")
    return max(worker, web) + 5


def check_schema(path: Path) -> subprocess.CompletedProcess[str]:
    """Compare a file with the Compose specification's schema, a copy of which comes with it."""
    program = ["check_jsonschema", "--builtin-schema=vendor.compose-spec"]
    command = [sys.executable, "-m", *program, str(path)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_the_compose_file_is_valid(project: Project, tmp_path: Path) -> None:
    path = project.path / "compose.yaml"
    valid = check_schema(path)
    assert valid.returncode == 0, valid.stdout
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(path.read_text().replace("stop_grace_period", "stop_grace"))
    assert "'stop_grace' was unexpected" in check_schema(wrong).stdout


def test_the_compose_file_runs_what_the_procfile_says(project: Project) -> None:
    processes, services = procfile(project), compose(project)
    # The last stage, which is the image.
    *_, image = (project.path / "Dockerfile").read_text().split("\nFROM ")
    for name, (variables, command) in processes.items():
        default = yaml.safe_load(re.findall(r"^CMD (.+)$", image, re.MULTILINE)[0])
        assert services[name].get("command", default) == command
        for variable, value in variables.items():
            # In the image, the project is in /app.
            assert f"{variable}={value.replace('.', '/app', value == '.')} " in image
        assert services[name]["env_file"] == ".env.production"
    for name in ("web", "worker"):
        assert services[name]["restart"] == "always"
        assert services[name]["depends_on"] == {
            "release": {"condition": "service_completed_successfully"}
        }
        assert int(services[name]["stop_grace_period"].removesuffix("s")) >= longest_end(project)
    port = services["web"]["environment"]["PORT"]
    assert services["caddy"]["environment"]["WEB"] == f"web:{port}"
    assert f"EXPOSE {port}\n" in image
    assert f"PORT={port} " in image


def test_docker_compose_as_the_docs_say(project: Project, tmp_path: Path) -> None:
    """No Docker daemon runs here: test_image.py builds the image and runs its processes."""
    text = section(project, DEPLOY, "Docker Compose")
    prepare, start = (block.content for block in blocks(text, "sh"))
    folder = Project(tmp_path, project.slug, project.app, project.env)
    run(folder, prepare, PATH=f"{Path(sys.executable).parent}:{folder.env['PATH']}")
    lines = (tmp_path / ".env.production").read_text().splitlines()
    variables = dict(line.split("=", 1) for line in lines)
    password = variables["POSTGRES_PASSWORD"]
    assert len(password) > 20
    assert f":{password}@postgres/" in variables["DATABASE_URL"]
    services = compose(project)
    for command in start.splitlines():
        _, _, verb, *words = command.split()
        assert verb in {"up", "exec"}
        assert verb == "up" or words[0] in services
    (address,) = re.findall(r"(https://\S+?)[ .,]", text)
    assert address == f"https://{services['caddy']['environment']['SITE']}"
    assert commands(text)


def test_the_containers_of_the_docs_run_what_compose_runs(project: Project) -> None:
    (block,) = blocks(section(project, DEPLOY, "The image"), "text")
    services = compose(project)
    for name, line in zip(("release", "web", "worker"), block.content.splitlines(), strict=True):
        words = shlex.split(line)
        at = words.index("site")
        assert words[at + 1 :] == services[name].get("command", [])
        grace = services[name].get("stop_grace_period", "").removesuffix("s")
        assert not grace or f"--stop-timeout={grace}" in words
    check = " ".join(services["worker"]["healthcheck"]["test"][1:])
    assert f"--health-cmd={check}" in words


def units(project: Project) -> dict[str, str]:
    """Return systemd's units by their names."""
    return {path.name: path.read_text() for path in (project.path / "deploy/systemd").iterdir()}


def values(unit: str, key: str) -> list[str]:
    """Return the words that a unit has for a key."""
    return " ".join(re.findall(rf"^{key}=(.*)$", unit, re.MULTILINE)).split()


def verify(folder: Path, names: list[str]) -> str:
    """Let systemd look for mistakes below a folder; return what it says."""
    verify = ["systemd-analyze", "verify", f"--root={folder}", *names]
    done = subprocess.run(
        verify, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.stdout


def test_systemd_finds_no_mistake_in_the_units(project: Project, tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        skip_or_fail("no systemd-analyze: apt-get install systemd")
    system = tmp_path / "etc/systemd/system"
    # The units that ours depend on.
    shutil.copytree("/lib/systemd/system", tmp_path / "usr/lib/systemd/system", symlinks=True)
    shutil.copytree(project.path / "deploy/systemd", system)
    for unit in units(project).values():
        program = tmp_path / values(unit, "ExecStart")[0][1:]
        program.parent.mkdir(parents=True, exist_ok=True)
        program.touch(0o755)
    names = [name.replace("@", "@1") for name in units(project)]
    assert verify(tmp_path, names) == ""
    for path in system.iterdir():
        path.write_text(path.read_text().replace("WorkingDirectory=", "Folder="))
        # Its status is 0 all the same.
        assert "Unknown key 'Folder'" in verify(tmp_path, [path.name.replace("@", "@1")])


def test_the_units_run_what_the_procfile_says(project: Project) -> None:
    for process, (variables, (program, *arguments)) in procfile(project).items():
        (unit,) = [unit for name, unit in units(project).items() if f"-{process}" in name]
        command = values(unit, "ExecStart")
        assert command[0] == f"/srv/my_project/.venv/bin/{program}"
        assert [word for word in command[1:] if not word.startswith("--bind=")] == arguments
        environment = values(unit, "Environment")
        assert {f"{name}={value}" for name, value in variables.items()} <= {*environment}
        if process != "release":
            assert values(unit, "Restart") == ["always"]
            assert int(values(unit, "TimeoutStopSec")[0]) >= longest_end(project)


def test_the_units_are_started_as_the_docs_say(project: Project) -> None:
    lines = commands(section(project, DEPLOY, "Plain servers"))
    started = {word for line in lines if "systemctl" in line for word in line.split()[2:]}
    named = {f"{re.sub('@.*', '@', word)}.service" for word in started if "my_project" in word}
    assert named == units(project).keys()
    (folder,) = {
        path for unit in units(project).values() for path in values(unit, "WorkingDirectory")
    }
    (user,) = {user for unit in units(project).values() for user in values(unit, "User")}
    assert f"cd {folder}" in lines
    assert f"useradd --system {user}" in lines


@contextmanager
def caddy(project: Project, folder: Path, web: int) -> Iterator[httpx.Client]:
    """Run Caddy in front of the web, with its own certificate; yield a client that trusts it."""
    port = free_port()
    config = folder / "Caddyfile"
    ours = project.path / "deploy/Caddyfile"
    # Nothing outside the folder is changed, and no privileged port is used.
    config.write_text(
        f"{{\nadmin off\nskip_install_trust\nhttp_port {free_port()}\n}}\nimport {ours}\n"
    )
    program = Path(sys.executable).with_name("caddyserver")
    command = [str(program), "run", "--adapter=caddyfile", f"--config={config}"]
    site = {"SITE": f"localhost:{port}", "WEB": f"127.0.0.1:{web}"}
    homes = {"XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    certificate = folder / CERTIFICATE
    with (folder / "caddy.log").open("wb") as log:
        process = subprocess.Popen(command, env=project.env | site | homes, stdout=log, stderr=log)
    try:
        wait_until(certificate.exists, what="Caddy's certificate")
        context = ssl.create_default_context(cafile=str(certificate))
        url = f"https://localhost:{port}"
        with httpx.Client(base_url=url, verify=context, follow_redirects=True) as client:
            wait_until(lambda: answers(client))
            yield client
    finally:
        process.terminate()
        process.wait(30)


def answers(client: httpx.Client) -> bool:
    """Tell if the site is ready."""
    try:
        return client.get("/health/ready").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def test_caddy_is_in_front_of_the_web(site: Project, start: Start, tmp_path: Path) -> None:
    """Users log in over TLS, and forty slow clients do not occupy gunicorn's four threads."""
    port = free_port()
    variables = {
        "DEBUG": "off",
        "TRUSTED_PROXY": "on",
        "EMAIL_URL": "console:",
        "SECRET_KEY": "a-key-of-fifty-random-characters-or-more-0123456789",
        "ALLOWED_HOSTS": "localhost",
        "DATABASE_URL": database_of(site).url,
    }
    site.run("manage.py", "collectstatic", "--no-input", **variables)
    new_user = "from users.models import User; User.objects.create_user('ann', password='secret')"
    site.run("manage.py", "shell", "-c", new_user, **variables)
    start(site, "gunicorn", "my_project.wsgi", **variables, PORT=str(port), WEB_CONCURRENCY="1")
    with caddy(site, tmp_path, port) as client, ExitStack() as connections:
        browser = Browser(port)
        browser.client.close()
        browser.client = client
        browser.log_in("ann", "secret")
        # Django reads a form only if the origin and the cookie are right.
        host = client.base_url.netloc.decode()
        headers = {
            "Host": host,
            "Origin": f"https://{host}",
            "Content-Length": "2500000",
            "Content-Type": "application/x-www-form-urlencoded",
            "Cookie": f"csrftoken={client.cookies['csrftoken']}",
        }
        lines = ["POST /accounts/login/ HTTP/1.1", *(f"{n}: {v}" for n, v in headers.items())]
        context = ssl.create_default_context(cafile=tmp_path / CERTIFICATE)
        # Requests that stop in their headers, and shortly before the end of their body.
        for unfinished in ("\r\n".join(lines), "\r\n".join([*lines, "", "a" * 2_400_000])):
            for _ in range(20):
                plain = socket.create_connection((client.base_url.host, client.base_url.port))
                slow = connections.enter_context(
                    context.wrap_socket(plain, server_hostname="localhost")
                )
                slow.sendall(unfinished.encode())
            assert client.get("/accounts/login/", timeout=10).status_code == httpx.codes.OK


@pytest.fixture
def kubernetes(project: Project, tmp_path: Path) -> Path:
    """A copy of the project's files for Kubernetes."""
    folder = tmp_path / "kubernetes"
    shutil.copytree(project.path / "deploy/kubernetes", folder)
    return folder


def kustomize(folder: Path) -> list[dict[str, Any]]:
    """Return what kubectl makes of a folder."""
    program = Path(sys.executable).with_name("kubectl")
    made = subprocess.run(
        [str(program), "kustomize", str(folder)], check=True, capture_output=True, text=True
    )
    return list(yaml.safe_load_all(made.stdout))


def validate(folder: Path) -> str:
    """Compare what kubectl makes of a folder with Kubernetes' own schemas."""
    made = folder.parent / "made.yaml"
    made.write_text(yaml.safe_dump_all(kustomize(folder)))
    command = [sys.executable, "-m", "kubernetes_validate", "--strict", "--quiet", str(made)]
    done = subprocess.run(
        command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.stdout


@pytest.mark.exhaustive
def test_the_files_for_kubernetes_are_valid(kubernetes: Path) -> None:
    """No cluster runs here: they are compared with the schemas of Kubernetes."""
    assert validate(kubernetes) == ""
    worker = kubernetes / "worker.yaml"
    worker.write_text(worker.read_text().replace("livenessProbe", "aliveProbe"))
    assert "aliveProbe" in validate(kubernetes)


@pytest.mark.exhaustive
def test_kubernetes_runs_what_the_procfile_says(project: Project, kubernetes: Path) -> None:
    processes = {name: command for name, (_, command) in procfile(project).items()}
    del processes["web"]  # the image's default, which another test compares
    processes["migrate"] = processes.pop("release")
    found = {}
    for made in kustomize(kubernetes):
        if made["kind"] not in {"Deployment", "Job"}:
            continue
        pod = made["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        if "command" in container:
            found[container["name"]] = container["command"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["envFrom"] == [{"secretRef": {"name": "site"}}]
        if made["kind"] == "Deployment":
            assert pod["terminationGracePeriodSeconds"] >= longest_end(project)
    assert found == processes


def test_postgres_notices_within_a_minute_that_a_host_has_vanished(
    project: Project, system_postgres: str
) -> None:
    """The settings hold for new sessions. faults/test_hosts.py cuts a host off."""
    (settings,) = blocks(section(project, DEPLOY, "The database's address"), "sql")
    database = Database(system_postgres, project.app)
    database.execute(settings.content)
    query = "SELECT name, setting::int FROM pg_settings WHERE name LIKE 'tcp_%%'"
    found = {row["name"]: row["setting"] for row in database.query(query)}
    # Seconds without a word, and milliseconds without an answer.
    assert 0 < found["tcp_keepalives_idle"] + found["tcp_user_timeout"] / 1_000 < 60
    assert 0 < found["tcp_keepalives_interval"] <= 10


def test_keda_reads_the_queue_and_nothing_else(site: Project) -> None:
    """Its queries run as the role that the docs make. Nothing here knows KEDA's own schema."""
    scaled, _ = yaml.safe_load_all((site.path / "deploy/kubernetes/keda.yaml").read_text())
    due, age = (trigger["metadata"]["query"] for trigger in scaled["spec"]["triggers"])
    database = database_of(site)
    (role,) = blocks(section(site, DEPLOY, "Kubernetes"), "sql")
    database.execute(role.content)
    defer = """
from datetime import timedelta
from myapp import tasks
tasks.send_summary.defer(import_id=1)
for minutes in (-10, 10):
    tasks.send_summary.configure(schedule_in=timedelta(minutes=minutes)).defer(import_id=1)
"""
    as_keda = database.url.replace("//dev@", "//keda@")
    with psycopg.connect(as_keda, autocommit=True) as connection:

        def number(query: str) -> float:
            (row,) = connection.execute(query.encode()).fetchall()
            return float(row[0])

        assert number(due) == number(age) == 0
        site.run("manage.py", "shell", "-c", defer)
        assert number(due) == 2
        assert 600 <= number(age) < 660
        database.execute("UPDATE procrastinate_jobs SET status = 'cancelled' WHERE id = 2")
        assert number(due) == 1
        assert 0 < number(age) < 60
        site.run("manage.py", "jobs", "pause", "default", "--reason", "a test")
        assert number(due) == number(age) == 0
        site.run("manage.py", "jobs", "resume", "default")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            number("SELECT args FROM procrastinate_jobs")


def test_the_files_for_deploying_are_deleted_in_one_step(editable: Project) -> None:
    (command,) = re.findall(r"`(rm -r .+?)`", section(editable, DEPLOY, "Docker Compose"))
    run(editable, command)
    kept = [
        path for path in editable.path.rglob("*") if path.is_file() and ".git" not in path.parts
    ]
    names = re.compile(r"compose\.yaml|Dockerfile|\bdeploy/")
    found = {
        path.relative_to(editable.path).as_posix()
        for path in kept
        if names.search(path.read_text(errors="replace"))
    }
    assert found <= {
        ".github/dependabot.yml",
        "README.md",
        "docs/deploy.md",
        "docs/operate.md",
    }
    editable.run("manage.py", "check", "--fail-level", "WARNING")
