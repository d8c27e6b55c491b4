"""The servers that the queues keep their jobs in: a durable PostgreSQL, and Redis."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg


@dataclass
class Postgres:
    """The rendered project's own PostgreSQL, with durable commits."""

    url: str

    def __post_init__(self) -> None:
        # The development server has it off.
        self.execute("ALTER ROLE CURRENT_USER SET synchronous_commit = on")

    def database(self, name: str) -> str:
        """Return a database's address."""
        return f"{self.url.rpartition('/')[0]}/{name}"

    def execute(self, statements: str, database: str = "dev") -> list[tuple[object, ...]]:
        """Execute statements in a database, and return the last one's rows."""
        with psycopg.connect(self.database(database), autocommit=True) as connection:
            cursor = connection.execute(statements.encode())
            return cursor.fetchall() if cursor.description else []

    def create(self, name: str, template: str = "template1") -> str:
        """Create a database afresh, as a copy of another, and return its address."""
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.database(name)

    def settings(self) -> dict[str, str]:
        """Return its version, and the settings that matter for durability and speed."""
        names = ("server_version", "fsync", "synchronous_commit", "shared_buffers", "max_wal_size")
        return {name: str(self.execute(f"SHOW {name}")[0][0]) for name in names}


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Run Redis with an append-only file; yield its address, or an empty text without Redis."""
    if not shutil.which("redis-server"):
        root = "" if os.geteuid() == 0 else "sudo"
        apt = f"{root} apt-get -qq"
        subprocess.run(
            f"{apt} update && {apt} install -y --no-install-recommends redis-server",
            shell=True,
            check=False,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
    if not shutil.which("redis-server"):
        yield ""
        return
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    options = {
        "bind": "127.0.0.1",
        "port": port,
        "dir": folder,
        "appendonly": "yes",
        "appendfsync": "everysec",
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    server = subprocess.Popen(["redis-server", *arguments], stdout=subprocess.DEVNULL)
    try:
        yield f"redis://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder)


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def flush(url: str) -> None:
    """Empty a Redis; if it is still starting, wait for it."""
    port = int(url.rpartition(":")[2])
    end = time.monotonic() + 10
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                connection.sendall(b"FLUSHALL\r\n")
                if connection.recv(64).startswith(b"+OK"):
                    return
        except ConnectionError:
            if time.monotonic() > end:
                raise
        time.sleep(0.05)
