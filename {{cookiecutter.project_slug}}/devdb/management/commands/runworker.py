"""The development worker, which is restarted when the code changes."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from watchfiles import PythonFilter, watch

KILL_AFTER = 4
"""Seconds after which a stopping worker is killed. honcho kills runworker after 5."""

GRACEFUL_TIMEOUT = 3
"""Seconds that a stopping worker waits for its jobs, if the environment sets none."""


class Command(BaseCommand):
    """Run Procrastinate's worker, and restart it until told to stop."""

    help = "Run the worker; restart it when Python code changes or when it ends."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the command line."""
        parser.add_argument(
            "args", nargs="*", help="arguments for `procrastinate worker`, after --"
        )

    def handle(self, *args: str, **options: Any) -> None:
        """Run one worker after another."""
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        delay = 1
        while not stop.is_set():
            # Before the worker reads the code, or a change right after that is missed.
            code = watch_code(stop)
            next(code, None)
            started = time.monotonic()
            with running(*args) as worker:
                changed = code_changes(code, lambda: worker.poll() is not None)
                if changed:
                    self.stderr.write("The code changed: restarting the worker.")
            if not changed and not stop.is_set():
                if time.monotonic() - started > 30:
                    delay = 1
                self.stderr.write(
                    f"The worker ended (status {worker.returncode}): restarting in "
                    f"{delay} s, or when the code changes."
                )
                changed = code_changes(code, has_passed(time.monotonic() + delay))
            delay = 1 if changed else min(2 * delay, 30)


def has_passed(moment: float) -> Callable[[], bool]:
    """Return a function that tells whether `time.monotonic()` is past a moment."""
    return lambda: time.monotonic() > moment


def watch_code(stop: threading.Event) -> Iterator[object]:
    """Yield the changes of the project's code, five times a second, until stopped."""
    # Packages only: most files of the project are in ``.venv``.
    return watch(
        *(path.parent for path in settings.BASE_DIR.glob("*/__init__.py")),
        watch_filter=PythonFilter(),
        stop_event=stop,
        rust_timeout=200,
        yield_on_timeout=True,
    )


def code_changes(code: Iterator[object], give_up: Callable[[], bool]) -> bool:
    """Wait until the code changes, its watcher is stopped or `give_up` is true.

    Returns:
        Whether the code changed.
    """
    for changes in code:
        if changes or give_up():
            return bool(changes)
    return False


@contextmanager
def running(*arguments: str) -> Generator[subprocess.Popen[bytes]]:
    """Start the worker; at the end, stop it with one signal, or kill it.

    It runs in a session of its own. In ours, it would also get the signals that a
    terminal and honcho send to the process group, and at the second signal a worker
    abandons its jobs.
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
    # If this process is killed, the guard's input ends, and the guard stops the worker.
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
