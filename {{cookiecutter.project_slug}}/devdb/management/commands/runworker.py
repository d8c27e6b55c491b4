"""The worker of development, which starts again when the code changes."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from watchfiles import PythonFilter, watch

KILL_AFTER = 4
"""Seconds that the worker has to end; honcho kills us after five."""

GRACEFUL_TIMEOUT = 3
"""Seconds that its jobs have to end, unless Procrastinate's own variable is set."""


class Command(BaseCommand):
    """Run Procrastinate's worker, again and again until told to stop."""

    help = "Run the worker; start it again when Python code changes or when it ends."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the command line."""
        parser.add_argument(
            "args", nargs="*", help="arguments for `procrastinate worker`, after --"
        )

    def handle(self, *args: str, **options: Any) -> None:
        """Run one worker after the other."""
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        pause = 1
        while not stop.is_set():
            begun = time.monotonic()
            with running(*args) as worker:
                changed = code_changes(stop, lambda: worker.poll() is not None)
                if changed:
                    self.stderr.write("The code changed: the worker starts again.")
            if not changed and not stop.is_set():
                if time.monotonic() - begun > 30:
                    pause = 1
                self.stderr.write(
                    f"The worker ended (status {worker.returncode}): it starts again "
                    f"in {pause} s, or when the code changes."
                )
                changed = code_changes(stop, until(time.monotonic() + pause))
            pause = 1 if changed else min(2 * pause, 30)


def until(moment: float) -> Callable[[], bool]:
    """Make a condition of a moment."""
    return lambda: time.monotonic() > moment


def code_changes(stop: threading.Event, enough: Callable[[], bool]) -> bool:
    """Wait for a change of the project's code, or for one of the other two events.

    Returns:
        Whether the code changed.
    """
    # Packages only: in the whole project most files are those of ``.venv``.
    for changes in watch(
        *(path.parent for path in settings.BASE_DIR.glob("*/__init__.py")),
        watch_filter=PythonFilter(),
        stop_event=stop,
        rust_timeout=200,
        yield_on_timeout=True,
    ):
        if changes or enough():
            return bool(changes)
    return False


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start the worker, and end it with one signal, or by force if it does not go.

    It has a session of its own: the signals that a terminal and honcho send to our
    process group would come on top of ours, and at the second one it drops its jobs.
    """
    timeout = "PROCRASTINATE_WORKER_SHUTDOWN_GRACEFUL_TIMEOUT"
    worker = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "procrastinate",
            "--app=tasks.app",
            "worker",
            *arguments,
        ],
        cwd=settings.BASE_DIR,
        env={timeout: str(GRACEFUL_TIMEOUT), **os.environ, "PYTHONPATH": "."},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    # If we are killed, its standard input ends, and it does what we cannot do any more.
    script = f"read _; kill {worker.pid}; sleep {KILL_AFTER}; kill -9 -{worker.pid}"
    guard = subprocess.Popen(
        ["sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield worker
    finally:
        worker.terminate()
        with suppress(subprocess.TimeoutExpired):
            worker.wait(KILL_AFTER)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
        guard.kill()
        guard.communicate()
