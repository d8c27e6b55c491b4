"""Folders, locks and processes: what the server needs from the operating system."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path


def say(message: str) -> None:
    """Print a message to standard error, which keeps it out of a command's output."""
    print(message, file=sys.stderr, flush=True)


def wait(condition: Callable[[], bool], seconds: float, message: str) -> bool:
    """Wait until a condition is true; after two seconds, print a message.

    Returns:
        Whether the condition became true in time.
    """
    begun = time.monotonic()
    said = False
    while not condition():
        waited = time.monotonic() - begun
        if waited > seconds:
            return False
        if waited > 2 and not said:
            say(message)
            said = True
        time.sleep(0.02)
    return True


@contextmanager
def locked(path: Path) -> Generator[int]:
    """Hold a lock, which the kernel releases when the last process that holds it ends.

    Yields:
        The lock's file descriptor; a child process that inherits it holds it as well.

    Raises:
        OSError: If another process keeps the lock.
    """
    import fcntl  # not at the top: Windows lacks it, and settings import this module

    with path.open("w") as file:

        def acquired() -> bool:
            with suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            return False

        if not wait(acquired, 120, "Waiting for another process to finish…"):
            raise TimeoutError(f"another process has held {path} for two minutes")
        yield file.fileno()


@contextmanager
def locked_folder(folder: Path) -> Generator[int]:
    """Lock a folder, so that systemd-tmpfiles does not delete its old files.

    Yields:
        The folder's file descriptor; a child process that inherits it keeps the lock.
    """
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield descriptor
    finally:
        os.close(descriptor)


def private_folder(path: Path, mode: int = 0o700, group: int = -1) -> None:
    """Make a folder that only its owner may use, if it does not exist yet.

    Raises:
        OSError: If it is not a folder, or other users own it or may use it.
    """
    with suppress(FileExistsError):
        path.mkdir(0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(f"{path} is not a folder of this user")
    if found.st_mode & 0o777 & ~mode:
        raise PermissionError(f"{path} is open to other users")
    os.chown(path, -1, group)
    path.chmod(mode)


def remove(path: Path) -> None:
    """Remove a folder, if there is one."""
    if path.exists():
        shutil.rmtree(path)


def command_line(pid: int) -> str:
    """Return the command line of a process, empty if there is no such process."""
    if sys.platform == "linux":
        with suppress(OSError):
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
            return os.fsdecode(arguments.replace(b"\0", b" "))
        return ""
    ps = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
    return os.fsdecode(subprocess.run(ps, check=False, stdout=subprocess.PIPE).stdout)


def stop(pid: int) -> None:
    """Stop a PostgreSQL server; if it takes too long, without a clean shutdown.

    Raises:
        OSError: If it does not stop.
    """
    before = command_line(pid)
    for number in (signal.SIGINT, signal.SIGQUIT):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        if wait(lambda: command_line(pid) != before, 15, "Stopping the database…"):
            return
    raise TimeoutError(f"process {pid} does not stop")
