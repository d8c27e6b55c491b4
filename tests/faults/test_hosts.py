"""Three hosts on one database: network namespaces, each with a web and a worker."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
import pytest
from browser import Database
from conftest import Project, Running, Stack, Start, wait_until
from documents import blocks, section
from test_operations import VARIABLES

NETWORK = "10.77.0"

# An atomic job that takes 50 ms, as if it asked another site, and leaves one mark at each run.
SERVICES = """

def add_items(number: int) -> None:
    items = Item.objects.bulk_create(Item() for _ in range(number))
    tasks.finish_item.batch_defer(tasks.finish_item.call(item_id=item.pk) for item in items)


def finish_item(*, item_id: int) -> None:
    import time

    from django.db.models import F, Value
    from django.db.models.functions import Concat

    time.sleep(0.05)
    Item.objects.filter(pk=item_id).update(name=Concat(F("name"), Value("x")))
"""

# The time from the first end of a job to the last.
TOOK = """
SELECT extract(epoch FROM max(at) - min(at)) AS seconds
FROM procrastinate_events e JOIN procrastinate_jobs j ON j.id = job_id
WHERE type = 'succeeded' AND job_id > %s AND task_name = 'shop.finish_item'
"""

LOAD = """
import time
from shop import services
services.add_items(1000)  # so that every host is busy when one is cut off
for _ in range(600):
    services.add_items(20)
    time.sleep(1)
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@pytest.fixture
def network() -> Iterator[None]:
    """A network of three hosts."""
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("network namespaces need root, and ip")
    names = [f"site{number}" for number in (1, 2, 3)]
    ip("link", "add", "site0", "type", "bridge")
    try:
        ip("address", "add", f"{NETWORK}.1/24", "dev", "site0")
        ip("link", "set", "site0", "up")
        for name in names:
            ip("netns", "add", name)
            ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", name, "master", "site0", "up")
            ip("-n", name, "address", "add", f"{NETWORK}.1{name[-1]}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
        yield
    finally:
        for name in names:
            # By itself: sockets may keep the namespace for a while.
            subprocess.run(["ip", "link", "delete", name], check=False)
            subprocess.run(["ip", "netns", "delete", name], check=False)
        ip("link", "delete", "site0")


@pytest.fixture
def database(network: None, system_postgres: str) -> Database:
    """The database, which the hosts can reach."""
    local = Database(system_postgres, "shop")
    (row,) = local.query("SELECT current_setting('data_directory') AS data")
    data = Path(row["data"])
    with (data / "pg_hba.conf").open("a") as rules:
        rules.write(f"host all all {NETWORK}.0/24 trust\n")
    with psycopg.connect(system_postgres, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET listen_addresses = '*'")
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    restart = [str(programs[-1] / "pg_ctl"), "-D", str(data), "-w", "restart"]
    log = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(restart, check=True, cwd="/", user="nobody", group="nogroup", **log)  # type: ignore[call-overload]
    return Database(system_postgres.replace("127.0.0.1", f"{NETWORK}.1"), "shop")


# Holds a running job of the worker on its host, as the end of a job does for a moment.
HOLD = """
import os, socket, time, psycopg
with psycopg.connect(os.environ["DATABASE_URL"]) as session:
    job = None
    while not job:
        job = session.execute(
            "SELECT j.id FROM procrastinate_jobs j JOIN jobs_workerinfo i USING (worker_id)"
            " WHERE host = %s AND status = 'doing' LIMIT 1 FOR UPDATE OF j SKIP LOCKED",
            [socket.gethostname()],
        ).fetchone()
    print("holds", *job, flush=True)
    time.sleep(900)
"""


@dataclass
class Host:
    """A host with a network and a name of its own."""

    number: int
    project: Project
    start: Start
    variables: dict[str, str]

    @property
    def name(self) -> str:
        return f"site{self.number}"

    def run(self, command: str) -> Running:
        """Run a command for ever, as a supervisor does."""
        script = f"hostname {self.name}; while :; do {command}; sleep 1; done"
        words = ("ip", "netns", "exec", self.name, "unshare", "--uts", "sh", "-c", script)
        return self.start(self.project, *words, **self.variables)

    def is_ready(self) -> bool:
        try:
            url = f"http://{NETWORK}.1{self.number}:8000/health/ready"
            return httpx.get(url, timeout=5).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_a_host_is_cut_off_for_two_minutes(
    stack: Stack, editable: Project, start: Start, database: Database
) -> None:
    """Its jobs run elsewhere, and what it reports late changes nothing."""
    editable.run("manage.py", "startapp", "shop")
    services, bridge = (editable.path / "shop" / name for name in ("services.py", "tasks.py"))
    services.write_text(services.read_text() + SERVICES)
    bridge.write_text(bridge.read_text().replace("@job()", "@job(atomic=True)"))
    variables = VARIABLES | {"DATABASE_URL": database.url, "WEB_CONCURRENCY": "1"}
    editable.run("manage.py", "migrate", **variables)
    editable.run("manage.py", "collectstatic", "--no-input", **variables)
    for block in blocks(section(editable, "docs/deploy.md", "The database's address"), "sql"):
        database.execute(block.content)
    hosts = [Host(number, editable, start, variables) for number in (1, 2, 3)]

    def add_items(number: int) -> None:
        code = f"from shop import services; services.add_items({number})"
        editable.run("manage.py", "shell", "-c", code, **variables)

    def waiting() -> int:
        query = "SELECT 1 FROM procrastinate_jobs WHERE status IN ('todo', 'doing') AND task_name = 'shop.finish_item'"
        return len(database.query(query))

    def workers() -> list[str]:
        query = "SELECT host FROM jobs_workerinfo JOIN procrastinate_workers w ON w.id = worker_id"
        return [row["host"] for row in database.query(query)]

    # How many jobs one, two and three hosts run.
    logs, rates = [], []
    for host in hosts:
        logs.append(host.run("procrastinate --app=tasks.app worker"))
        wait_until(lambda number=host.number: len(workers()) == number)  # type: ignore[misc]
        (last,) = database.query("SELECT max(id) AS id FROM procrastinate_jobs")
        jobs = 600 * host.number
        add_items(jobs)
        wait_until(lambda: not waiting())
        (took,) = database.query(TOOK, [last["id"] or 0])
        rates.append(jobs / float(took["seconds"]))
        print(f"{host.number} hosts: {rates[-1]:.0f} jobs/s, ×{rates[-1] / rates[0]:.2f}")

    for host in hosts:
        host.run("gunicorn my_project.wsgi --bind=0.0.0.0:8000")
    wait_until(lambda: all(host.is_ready() for host in hosts))

    # Cut one off while it has jobs.
    cut = hosts[1]
    running = f"""
        SELECT j.id FROM procrastinate_jobs j JOIN jobs_workerinfo USING (worker_id)
        WHERE host = '{cut.name}' AND status = 'doing'
    """
    load = start(editable, "python", "manage.py", "shell", "-c", LOAD, **variables)
    wait_until(lambda: len(database.query(running)) == 4)
    (editable.path / "hold.py").write_text(HOLD)
    cut.run("python hold.py").wait_for("holds", 60)
    ip("link", "set", cut.name, "down")
    end = time.monotonic() + 120
    lost = [row["id"] for row in database.query(running)]
    print(f"{len(lost)} jobs were on the host that was cut off")
    assert lost
    assert not cut.is_ready()
    ended = "SELECT 1 FROM procrastinate_jobs WHERE id = ANY(%s) AND status = 'succeeded'"
    wait_until(lambda: len(database.query(ended, [lost])) == len(lost), 110)
    print(f"{end - time.monotonic():.0f} s before it came back, they had run elsewhere")
    assert hosts[0].is_ready()
    assert hosts[2].is_ready()
    wait_until(lambda: time.monotonic() > end, 120)
    ip("link", "set", cut.name, "up")

    wait_until(cut.is_ready)
    before = logs[1].output.count("ended with status: Success")
    wait_until(lambda: logs[1].output.count("ended with status: Success") > before, 120)
    load.interrupt()
    wait_until(lambda: not waiting(), 300)
    # Each job has left one mark, whoever ran it and how often.
    marks = "SELECT name, count(*) FROM shop_item GROUP BY name"
    assert [row["name"] for row in database.query(marks)] == ["x"]
    assert not database.query("SELECT 1 FROM procrastinate_jobs WHERE status = 'failed'")
