"""What goes wrong at night: workers killed, the database gone, a pooler in between."""

import gzip
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import httpx
import psutil
import psycopg
import pytest
from aiosmtpd.controller import Controller
from browser import Database
from conftest import Project, Running, Stack, Start, free_port, wait_until
from documents import blocks, commands, follow, lint, run, section, sort_imports
from site_at_work import block_import, database_of

RECIPES = "docs/recipes.md"
WORKER = ("procrastinate", "--app=tasks.app", "worker")
TOKEN = "a token"

VARIABLES = {
    "DEBUG": "off",
    "SECRET_KEY": "a-key-of-fifty-random-characters-or-more-0123456789",
    "ALLOWED_HOSTS": "www.example.com",
    "EMAIL_URL": "smtp://127.0.0.1",
    "METRICS_TOKEN": TOKEN,
    "PYTHONPATH": ".",
    "WEB_CONCURRENCY": "2",
}


@dataclass
class Production:
    """The project with the variables of production, process by process."""

    project: Project
    start: Start
    database: Database
    variables: dict[str, str]

    def web(self) -> str:
        """Start gunicorn; return its address."""
        if not (self.project.path / "staticfiles" / "staticfiles.json").exists():
            self.manage("collectstatic", "--no-input")
        port = str(free_port())
        running = self.start(
            self.project, "gunicorn", "my_project.wsgi", **self.variables, PORT=port
        )
        running.wait_for("Listening at")
        assert all(map(json.loads, running.output.splitlines()))
        return f"http://127.0.0.1:{port}"

    def worker(self, **env: str) -> tuple[Running, psutil.Process]:
        """Start a worker; return it, and its process without uv's."""
        before = self.processes()
        running = self.start(self.project, *WORKER, **self.variables, **env)
        running.wait_for("Starting worker")
        (process,) = self.processes() - before
        return running, process

    def processes(self) -> set[psutil.Process]:
        """Return the processes of all workers."""
        return {
            process
            for process in self.project.processes()
            if process.status() != psutil.STATUS_ZOMBIE
            and "--app=tasks.app" in process.cmdline()
            and "uv" not in process.name()
        }

    def manage(self, *command: str) -> str:
        return self.project.run("manage.py", *command, **self.variables).stdout

    def defer_import(self, people: int = 10) -> int:
        """Import people; return the job's id."""
        (job,) = self.defer_imports(1, people)
        return job

    def defer_imports(self, imports: int, people: int = 10) -> list[int]:
        """Start a number of imports; return the ids of their jobs."""
        code = f"""
import io
from users.models import User
from {self.project.app} import services
user, _ = User.objects.get_or_create(username="ann")
for _ in range({imports}):
    # One more column for each file: the same file is not imported twice at once.
    lines = ["email" + "," * user.contactimport_set.count()] + [f"person{{n}}@example.com" for n in range({people})]
    file = io.BytesIO("".join(f"{{line}}\\n" for line in lines).encode())
    print("job", services.start_import(owner=user, filename="a", file=file).job_id)

"""
        jobs = re.findall(r"^job (\d+)", self.manage("shell", "-v0", "-c", code), re.MULTILINE)
        assert len(jobs) == imports
        return [int(job) for job in jobs]

    def job(self, pk: int) -> dict[str, object]:
        (row,) = self.database.query("SELECT * FROM procrastinate_jobs WHERE id = %s", [pk])
        return row

    def wait_for(self, job: int, limit: float = 30) -> None:
        """Wait until a job has succeeded; fail after the limit in seconds."""
        wait_until(lambda: self.job(job)["status"] == "succeeded", limit)

    def connections(self) -> int:
        """Return how many connections there are, without the one that counts them."""
        (row,) = self.database.query(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
            " AND datname = current_database() AND pid <> pg_backend_pid()"
        )
        return int(row["count"])


@pytest.fixture
def production(site: Project, start: Start) -> Production:
    """Production, on the development database."""
    database = database_of(site)
    return Production(site, start, database, VARIABLES | {"DATABASE_URL": database.url})


def status(url: str, **headers: str) -> int:
    return httpx.get(url, headers=headers, timeout=30).status_code


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_job_of_a_killed_worker_runs_again_within_90_seconds(production: Production) -> None:
    _, first = production.worker()
    with block_import(production.database, 5):
        job = production.defer_import()
        wait_until(production.database.blocked)
        first.kill()
        killed = time.monotonic()
    production.worker()
    production.wait_for(job, 90)
    assert time.monotonic() - killed < 90
    assert production.job(job)["attempts"] == 2
    (failure,) = production.database.query("SELECT * FROM jobs_jobfailure WHERE job_id = %s", [job])
    assert (failure["attempt"], failure["exception"]) == (1, "JobStalled")


@pytest.mark.parametrize("outage", ["short", pytest.param("long", marks=pytest.mark.exhaustive)])
@pytest.mark.timeout(400)
def test_the_site_survives_its_database(production: Production, outage: str) -> None:
    """The database stops while a job runs; nothing is lost or done twice."""
    url = production.web()
    running, _ = production.worker()
    assert status(f"{url}/health/ready") == 200
    wait_until(lambda: status(f"{url}/health/workers") == 200)

    # The transaction that blocks the job ends with the server.
    with suppress(psycopg.OperationalError), block_import(production.database, 3_000):
        job = production.defer_import(5_000)
        wait_until(production.database.blocked)
        production.project.run("manage.py", "devdb", "stop")
    assert status(f"{url}/health/live") == 200
    assert status(f"{url}/health/ready") == 503
    assert status(f"{url}/health/workers") == 503
    if outage == "long":
        # 0 if its heartbeat failed first: so it must be restarted whatever the status is.
        assert running.process.wait(150) in {0, 1}

    production.project.run("manage.py", "devdb", "up")
    wait_until(lambda: status(f"{url}/health/ready") == 200)
    assert production.database.last_import()["imported"] == 3_000

    def is_done() -> bool:
        """Restart the worker if it has ended, as a supervisor does; return if the job is done."""
        nonlocal running
        if running.process.poll() is not None:
            running, _ = production.worker()
        return production.job(job)["status"] == "succeeded"

    wait_until(is_done, 120)
    assert production.database.last_import()["imported"] == 5_000
    assert len(production.database.contacts()) == 5_000
    summaries = "SELECT 1 FROM procrastinate_jobs WHERE task_name LIKE '%%.send_summary'"
    assert len(production.database.query(summaries)) == 1


@pytest.mark.timeout(300)
def test_probes_are_answered(production: Production) -> None:
    url = production.web()
    assert status(f"{url}/health/workers") == 503
    assert (
        "No worker is alive"
        in production.project.run(
            "manage.py", "check_workers", check=False, **production.variables
        ).stdout
    )
    production.worker()
    assert status(f"{url}/health/workers") == 200
    assert "Workers: 1" in production.manage("check_workers")


def test_prometheus_gets_metrics_if_it_knows_the_token(production: Production) -> None:
    def metrics(token: str, **headers: str) -> httpx.Response:
        headers |= {"Host": "www.example.com", "Authorization": f"Bearer {token}"}
        return httpx.get(f"{url}/metrics", headers=headers)

    https = {"X-Forwarded-Proto": "https"}
    production.variables["TRUSTED_PROXY"] = "on"
    production.worker()
    url = production.web()
    assert metrics(TOKEN).status_code == 301
    assert metrics("another", **https).status_code == 401
    answer = metrics(TOKEN, **https)
    assert answer.status_code == 200
    assert "\njobs_workers 1.0\n" in answer.text

    production.variables["METRICS_TOKEN"] = ""
    url = production.web()
    assert metrics(TOKEN, **https).status_code == 404


@pytest.mark.timeout(300)
def test_a_worker_has_as_few_connections_as_promised(production: Production) -> None:
    """Idle, with as many jobs as it runs at once, and after them."""
    least, most = 6, 11
    production.worker()
    wait_until(lambda: production.connections() >= least)
    with block_import(production.database, 0):
        jobs = production.defer_imports(6)
        wait_until(lambda: production.database.blocked() == 4)
        # One connection is ours: it blocks the jobs.
        under_load = production.connections() - 1
    for job in jobs:
        production.wait_for(job)
    # Each has deferred an async job, which would fail without a connection.
    done = (
        "SELECT 1 FROM procrastinate_jobs WHERE task_name LIKE '%%.send_summary' AND attempts = 1"
    )
    wait_until(lambda: len(production.database.query(done)) == len(jobs))
    assert least < under_load <= most
    assert least <= production.connections() <= most


def test_the_web_has_as_few_connections_as_promised(production: Production) -> None:
    """While every thread of a process waits for the database, and more requests come."""
    production.variables["WEB_CONCURRENCY"] = "1"
    most = 5
    url = production.web()
    with (
        ThreadPoolExecutor(20) as requests,
        psycopg.connect(production.database.url) as connection,
    ):
        connection.execute("LOCK TABLE django_migrations")
        answers = [requests.submit(status, f"{url}/health/ready") for _ in range(20)]
        wait_until(lambda: production.database.blocked() == 4)
        # One connection is ours.
        assert production.connections() - 1 <= most
        connection.rollback()
        assert {answer.result() for answer in answers} == {200}


@pytest.fixture
def pgbouncer(project: Project, system_postgres: str) -> Iterator[str]:
    """The address of a pooler in transaction mode, in front of the system's PostgreSQL."""
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin")
    if not program:
        pytest.skip("the system has no pgbouncer")
    url = httpx.URL(system_postgres)
    port = free_port()
    folder = Path(f"/tmp/pgbouncer-{port}")
    folder.mkdir(mode=0o755)
    (folder / "userlist.txt").write_text('"site" "secret"\n')
    recipe = (project.path / "deploy/pgbouncer.ini").read_text()
    for printed, here in (
        ("port=5432", f"port={url.port}"),
        ("6432", f"{port}\nunix_socket_dir ="),
        ("/etc/pgbouncer/", f"{folder}/"),
    ):
        assert recipe.count(printed) == 1
        recipe = recipe.replace(printed, here)
    config = folder / "pgbouncer.ini"
    config.write_text(recipe)
    # PgBouncer does not run as root either.
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    process = subprocess.Popen([program, *user, str(config)], stderr=subprocess.DEVNULL)
    yield str(url.copy_with(port=port, username="site", password="secret"))
    process.terminate()
    process.wait(30)
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_backup_has_rows_and_jobs(production: Production, tmp_path: Path) -> None:
    """Jobs that ran or waited run again, unless they are cancelled."""
    text = section(production.project, "docs/operate.md", "Back up and restore")
    dump, restore, cancel = (
        block.content.replace("site.dump", str(tmp_path / "site.dump"))
        for block in blocks(text, "sh")
    )
    programs = production.project.run(
        "--quiet", "python", "-c", "from devdb.server import program; print(program('psql').parent)"
    ).stdout.strip()

    def follow_on(database: Database, script: str) -> None:
        path = f"{programs}:{production.project.env['PATH']}"
        run(production.project, f"PATH={path}\n{script}", DATABASE_URL=database.url)

    def empty(name: str) -> Database:
        with psycopg.connect(production.database.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        url = urlsplit(production.database.url)._replace(path=f"/{name}").geturl()
        return Database(url, production.project.app)

    first, _ = production.worker(PROCRASTINATE_WORKER_CONCURRENCY="1")
    ended = production.defer_import()
    production.wait_for(ended)
    with block_import(production.database, 15):
        running = production.defer_import(20)
        wait_until(production.database.blocked)
        waiting = production.defer_import(30)
        follow_on(production.database, dump)
    production.wait_for(waiting)
    first.interrupt()

    copy, restored = empty("copy"), empty("restored")
    for database in (copy, restored):
        follow_on(database, restore)
    follow_on(copy, cancel)
    statuses_now = {row["status"] for row in copy.query("SELECT status FROM procrastinate_jobs")}
    assert statuses_now == {"cancelled", "succeeded"}

    production.database = restored
    production.variables["DATABASE_URL"] = restored.url
    statuses = {pk: production.job(pk)["status"] for pk in (ended, running, waiting)}
    assert statuses == {ended: "succeeded", running: "doing", waiting: "todo"}
    assert len(restored.contacts()) == 10
    production.worker()
    for job in (waiting, running):
        production.wait_for(job, 90)
    assert production.job(running)["attempts"] == 2
    assert len(restored.contacts()) == 30


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_site_works_behind_a_pooler(
    production: Production, system_postgres: str, pgbouncer: str
) -> None:
    """Django uses PgBouncer, in the web and in the worker; LISTEN uses a direct connection."""
    production.database = Database(system_postgres, production.project.app)
    production.variables |= {"DATABASE_URL": pgbouncer, "WORKER_DATABASE_URL": system_postgres}
    wait_until(lambda: "procrastinate" in production.manage("migrate", "-v1"))
    url = production.web()
    running, _ = production.worker(PROCRASTINATE_WORKER_FETCH_JOB_POLLING_INTERVAL="60")
    assert {status(f"{url}/health/ready") for _ in range(50)} == {200}
    jobs = production.defer_imports(3, 2_000)
    # Sooner than the next poll, so the notification arrived.
    wait_until(lambda: all(production.job(job)["status"] == "succeeded" for job in jobs), 30)
    assert "prepared statement" not in running.output
    assert "Traceback" not in running.output


def test_the_site_runs_as_a_role_that_may_change_no_tables(production: Production) -> None:
    """Only migrations need the owner of the tables."""
    production.database.execute("CREATE ROLE site LOGIN")
    production.variables["DATABASE_URL"] = production.database.url.replace("//dev@", "//site@")
    url = production.web()
    answer = httpx.get(f"{url}/health/ready", timeout=30)
    assert answer.text == "unavailable: the database role lacks rights on the tables"
    production.database.execute(
        """
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO site;
        GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO site;
        """
    )
    running, _ = production.worker()
    production.wait_for(production.defer_import())
    upkeep = "SELECT 1 FROM procrastinate_jobs WHERE task_name LIKE 'maintenance.%%' AND status "
    wait_until(lambda: production.database.query(f"{upkeep} = 'succeeded'"))
    production.manage("shell", "-v0", "-c", "from jobs import upkeep; upkeep.prune()")
    assert status(f"{url}/health/ready") == status(f"{url}/health/workers") == 200
    assert "denied" not in running.output


@pytest.fixture
def shop(stack: Stack, editable: Project, start: Start) -> Production:
    """Production, of a project with the app of the docs' examples."""
    stack.start_database(editable)
    editable.run("manage.py", "startapp", "shop")
    database = database_of(editable)
    return Production(editable, start, database, VARIABLES | {"DATABASE_URL": database.url})


def follow_recipe(shop: Production, chapter: str) -> None:
    """Do what a recipe says, and migrate."""
    follow(shop.project, section(shop.project, RECIPES, chapter))
    sort_imports(shop.project)
    shop.manage("makemigrations")
    shop.manage("migrate")
    lint(shop.project)


def shell(production: Production, code: str, app: str = "shop") -> str:
    lines = f"from {app} import services, tasks\n{code}"
    return production.manage("shell", "-v0", "-c", lines)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_queue_is_paused_as_the_docs_say(production: Production) -> None:
    pause, resume = commands(section(production.project, "docs/operate.md", "Pause a queue"))
    running, _ = production.worker()
    run(production.project, pause)
    running.wait_for("Paused queues: default")
    app = production.project.app
    shell(production, "tasks.send_summary.defer(import_id=1)", app)
    shell(production, "tasks.send_summary.configure(queue='mail').defer(import_id=1)", app)
    query = (
        "SELECT queue_name, status FROM procrastinate_jobs WHERE task_name LIKE '%%.send_summary'"
    )

    def statuses() -> dict[str, str]:
        return {row["queue_name"]: row["status"] for row in production.database.query(query)}

    wait_until(lambda: statuses()["mail"] not in {"todo", "doing"})
    assert statuses()["default"] == "todo"
    url = production.web()
    assert status(f"{url}/health/workers") == 200
    run(production.project, resume)
    wait_until(lambda: statuses()["default"] not in {"todo", "doing"})


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_alert_reaches_a_person_as_the_docs_say(
    production: Production, mail_server: Controller
) -> None:
    """A real mail server gets one message, and one when it is over, from two workers."""
    text = section(production.project, "docs/operate.md", "What happens by itself")
    (command,) = commands(text)
    production.variables |= {
        "ALERTS_TO": "ops@example.com",
        "EMAIL_URL": f"smtp://127.0.0.1:{mail_server.port}",
    }
    for _ in range(2):
        run(production.project, command, **production.variables)
    subjects = mail_server.handler.subjects
    assert subjects == ["[my_project] No worker is alive"]
    for _ in range(2):
        production.worker()
    # The workers look once a minute.
    wait_until(lambda: len(subjects) > 1, 120)
    assert subjects[1:] == ["[my_project] Over: No worker is alive"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_kind_of_job_is_limited_as_the_docs_say(shop: Production) -> None:
    """Each customer has two jobs at once, in two workers that could run eight."""
    follow(shop.project, section(shop.project, RECIPES, "Limit how many run at once"))
    lint(shop.project)
    shop.manage("migrate")

    def running() -> dict[str, int]:
        query = """
            SELECT coalesce(split_part(lock, ':', 2), 'nobody') AS customer, count(*) AS jobs
            FROM procrastinate_jobs WHERE task_name = 'shop.finish_item' AND status = 'doing'
            GROUP BY customer
        """
        return {row["customer"]: row["jobs"] for row in shop.database.query(query)}

    create = """
from shop.models import Item
items = Item.objects.bulk_create(Item(name="Tea") for _ in range(600))
for n, customer in enumerate(("ann", "ben", "cleo")):
    services.finish_items([item.pk for item in items[n::3]], customer=customer)
for _ in range(2):
    tasks.finish_item.defer(item_id=0)
"""
    shell(shop, create)
    limits = {"ann": 2, "ben": 2, "cleo": 2}
    with psycopg.connect(shop.database.url) as connection:
        connection.execute("LOCK TABLE shop_item")
        for _ in range(2):
            shop.worker()
        # The last two jobs run, so the workers have looked at all the others.
        wait_until(lambda: running() == limits | {"nobody": 2})
        connection.rollback()
    left = "SELECT 1 FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"
    left += " AND task_name = 'shop.finish_item' LIMIT 1"
    while shop.database.query(left):
        assert all(number <= 2 for number in running().values())
    assert not shop.database.query("SELECT 1 FROM shop_item WHERE finished_at IS NULL")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_rate_of_a_kind_of_job_is_limited_as_the_docs_say(shop: Production) -> None:
    """With two processes that defer at the same time, and two workers."""
    follow_recipe(shop, "Limit how many start in a minute")
    create = """
from shop.models import Item
items = Item.objects.bulk_create(Item(name="Tea") for _ in range(100))
services.finish_evenly([item.pk for item in items], per_minute=1_200)
"""
    for _ in range(2):
        shop.worker()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: shell(shop, create), range(2)))
    query = """
        SELECT scheduled_at, status, (
            SELECT min(at) FROM procrastinate_events WHERE job_id = job.id AND type = 'started'
        ) AS started
        FROM procrastinate_jobs job WHERE task_name = 'shop.finish_item' ORDER BY scheduled_at
    """
    ended = "SELECT 1 FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"
    ended += " AND task_name = 'shop.finish_item'"
    wait_until(lambda: not shop.database.query(ended))
    jobs = shop.database.query(query)
    assert len(jobs) == 200
    assert {job["status"] for job in jobs} == {"succeeded"}
    assert all(job["started"] >= job["scheduled_at"] for job in jobs)
    moments = [job["scheduled_at"] for job in jobs]
    gaps = [later - moment for moment, later in pairwise(moments)]
    assert min(gaps) >= timedelta(minutes=1) / 1_200


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_job_waits_for_others_as_the_docs_say(shop: Production) -> None:
    follow_recipe(shop, "One job after others")
    shop.worker()
    shell(shop, "services.start_batch(10)")
    finished = "SELECT 1 FROM shop_batch WHERE finished_at > now() - interval '1 h'"
    wait_until(lambda: shop.database.query(finished))
    (batch,) = shop.database.query("SELECT * FROM shop_batch")
    assert batch["remaining"] == 0
    last = "SELECT 1 FROM procrastinate_jobs WHERE task_name = 'shop.finish_batch'"
    assert len(shop.database.query(last)) == 1
    assert not shop.database.query("SELECT 1 FROM jobs_jobfailure")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_upgrade_in_two_phases_as_the_docs_say(production: Production) -> None:
    """Both processes work between the phases, and during the second one."""
    text = section(production.project, "docs/deploy.md", "A new version of Procrastinate")
    show, first, second = commands(text)
    with psycopg.connect(production.database.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE upgrade")
    url = urlsplit(production.database.url)._replace(path="/upgrade").geturl()
    production.database = Database(url, production.project.app)
    production.variables["DATABASE_URL"] = url
    production.manage(*first.split()[2:])
    for app in ("auth", "sessions", "admin", "users", "jobs", production.project.app):
        production.manage("migrate", app)
    plan = production.manage(*show.split()[2:])
    assert "[X]  procrastinate.0040_pre" in plan
    assert "[ ]  procrastinate.0041_post" in plan

    site = production.web()
    production.worker()
    for _ in range(2):
        assert status(f"{site}/health/ready") == 200
        job = production.defer_import()
        production.wait_for(job)
        production.manage(*second.split()[2:])
    assert "[ ]" not in production.manage(*show.split()[2:])


@pytest.mark.timeout(300)
def test_releases_at_the_same_time_take_turns(production: Production) -> None:
    with psycopg.connect(production.database.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE empty")
    url = urlsplit(production.database.url)._replace(path="/empty").geturl()
    variables = production.variables | {"DATABASE_URL": url}
    releases = [
        production.start(production.project, "manage.py", "migrate", **variables) for _ in range(2)
    ]
    assert [release.process.wait(120) for release in releases] == [0, 0]
    assert sum("No migrations to apply" in release.output for release in releases) == 1


@pytest.fixture
def sentry() -> Iterator[tuple[str, list[str]]]:
    """The address of a Sentry server, and what it receives."""
    sent: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            sent.append(gzip.decompress(body).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever).start()
    yield f"http://key@127.0.0.1:{server.server_port}/1", sent
    server.shutdown()
    server.server_close()


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_sentry_receives_a_failed_job_without_its_arguments(
    production: Production, sentry: tuple[str, list[str]], tmp_path: Path
) -> None:
    dsn, sent = sentry
    app = production.project.app
    shell(production, "tasks.send_summary.defer(import_id=424242)", app)
    production.project.run(
        *("--extra", "sentry", *WORKER, "--one-shot"),
        **production.variables,
        SENTRY_DSN=dsn,
        UV_PROJECT_ENVIRONMENT=str(tmp_path / "venv"),
        UV_NO_SYNC="0",
    )
    assert "DoesNotExist" in "".join(sent)
    assert "send_summary" in "".join(sent)
    assert "424242" not in "".join(sent)
