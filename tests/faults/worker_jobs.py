"""Jobs that do what a worker must survive; copied into a rendered project's tasks/."""

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection, connections, transaction
from jobs.bridge import job
from jobs.retry import Retry
from procrastinate import JobContext
from procrastinate.exceptions import JobAborted

from . import app

leak: ContextVar[str] = ContextVar("leak", default="")
RETRY = Retry(max_attempts=3, wait=0)


def faulty(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Declare a job and bind its body at once, named after the function."""

    def declare(body: Callable[..., Any]) -> Any:
        options.setdefault("retry", RETRY)
        return job(name=f"faults.{body.__name__}", **options)(body).task(app)(body)

    return declare


def with_context(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """The same for a body that takes its context."""

    def declare(body: Callable[..., Any]) -> Any:
        def stub(*, seconds: float) -> None: ...

        stub.__name__ = body.__name__
        options.setdefault("retry", RETRY)
        declared = job(name=f"faults.{body.__name__}", **options)(stub)
        return declared.task(app, pass_context=True)(body)

    return declare


def leave_effect(what: object = "x") -> None:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO effects (what) VALUES (%s)", [str(what)])


def wait_until_rescued() -> None:
    """Wait until the test has given this job to another worker."""
    rescued = None
    while not rescued:
        time.sleep(0.02)
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM effects WHERE what = 'rescued'")
            rescued = cursor.fetchone()


# The jobs of `trial.py`: each leaves its id.


@with_context(retry=Retry())
def plain(context: JobContext, *, seconds: float) -> None:
    leave_effect(context.job.id)
    time.sleep(seconds)


@with_context(retry=Retry(), atomic=True)
def atomic(context: JobContext, *, seconds: float) -> None:
    leave_effect(context.job.id)
    time.sleep(seconds)


@with_context(retry=Retry())
async def on_the_loop(context: JobContext, *, seconds: float) -> None:
    await sync_to_async(leave_effect)(context.job.id)
    await asyncio.sleep(seconds)


@faulty()
def block(*, seconds: float = 0) -> None:
    time.sleep(seconds)


# The tests' own process has one database.
if "worker" in sys.argv:
    connections.databases["other"] = connections.databases["default"]


@faulty(atomic=True)
def uses_another_database() -> None:
    with connections["other"].cursor() as cursor:
        cursor.execute("INSERT INTO effects (what) VALUES ('x')")


@faulty()
async def wait(*, seconds: float = 0) -> None:
    await asyncio.sleep(seconds)


# By chance, they lose their sessions and their workers again and again.
@faulty(retry=Retry(max_attempts=1_000, wait=0))
def effect(*, seconds: float = 0) -> None:
    leave_effect()
    time.sleep(seconds)


@faulty(retry=Retry(max_attempts=1_000, wait=0), atomic=True)
def atomic_effect(*, seconds: float = 0) -> None:
    leave_effect()
    time.sleep(seconds)


@faulty()
def late() -> None:
    leave_effect()
    wait_until_rescued()


@faulty(atomic=True)
def late_atomic() -> None:
    leave_effect()
    wait_until_rescued()


@faulty()
async def late_on_the_loop() -> None:
    await sync_to_async(wait_until_rescued)()


@faulty(retry=None)
def late_failure() -> None:
    wait_until_rescued()
    raise KeyError("late")


@faulty(atomic=True)
def atomic_failure() -> None:
    leave_effect()
    raise KeyError("after the effect")


@faulty(atomic=True)
def atomic_lazy() -> Any:
    leave_effect()
    return asyncio.sleep(0)


@faulty()
def lazy(*, seconds: float = 0) -> Any:
    return asyncio.sleep(seconds)


@faulty()
def fail() -> None:
    raise ConnectionError


@faulty(retry=None)
def wrong() -> None:
    raise KeyError("wrong")


@faulty()
def leave() -> None:
    sys.exit(3)


@with_context()
def polite(context: JobContext, *, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if context.should_abort():
            raise JobAborted
        time.sleep(0.02)


@with_context(timeout=timedelta(seconds=1))
def stops_in_time(context: JobContext, *, seconds: float) -> None:
    polite.func(context, seconds=seconds)


@faulty(retry=None)
def once(*, seconds: float) -> None:
    time.sleep(seconds)


@faulty()
def stubborn(*, seconds: float) -> None:
    leave_effect()
    time.sleep(seconds)


@faulty(timeout=timedelta(seconds=1))
def endless() -> None:
    time.sleep(1_000)


@faulty(timeout=timedelta(seconds=1))
async def endless_wait() -> None:
    await asyncio.sleep(1_000)


@faulty()
async def blocking() -> None:
    while True:
        pass


@faulty()
async def stops_the_loop() -> None:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(1_000)


@faulty()
async def closes_the_loop() -> None:
    asyncio.get_running_loop().close()


@faulty()
def poison() -> None:
    """Kill the worker, when all jobs that may run beside this one do."""
    with connection.cursor() as cursor:
        waiting = True
        while waiting:
            cursor.execute(
                "SELECT count(*) FROM procrastinate_jobs"
                " WHERE status = 'todo' AND lock IS NULL AND task_name LIKE 'faults.%'"
            )
            ((waiting,),) = cursor.fetchall()
    os._exit(9)


@faulty()
def dirty(*, how: str) -> None:
    """Leave a session, a transaction or a context in a bad state."""
    with connection.cursor() as cursor:
        match how:
            case "autocommit":
                transaction.set_autocommit(False)
                leave_effect()
            case "begin":
                cursor.execute("BEGIN")
                leave_effect()
            case "closed":
                connection.connection.close()
            case "search_path" | "role" | "statement_timeout" | "time zone":
                value = {"search_path": "nowhere", "statement_timeout": "1000000"}
                other = {"role": "pg_monitor", "time zone": "'Asia/Tokyo'"}
                cursor.execute(f"SET {how} TO {(value | other)[how]}")
            case "advisory lock":
                cursor.execute("SELECT pg_advisory_lock(7)")
            case "context":
                assert not leak.get()
                leak.set("leaked")
            case "on_commit":
                transaction.on_commit(lambda: 1 / 0)
            case "async":

                async def ask() -> None:
                    await asyncio.sleep(0)

                async_to_sync(ask)()


@faulty(atomic=True)
def atomic_dirty(*, how: str) -> None:
    """Do the same in an atomic job."""
    dirty.func(how=how)


@faulty()
def clean() -> None:
    """Fail unless the session is as Django made it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('search_path'), current_user = session_user,"
            " current_setting('statement_timeout'), current_setting('TimeZone'),"
            " (SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database"
            " WHERE locktype = 'advisory' AND classid = 0 AND objid = 7"
            " AND datname = current_database())"
        )
        found = cursor.fetchone()
    assert found == ('"$user", public', True, "0", "UTC", 0), found
    assert not leak.get()


class NoText(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


@faulty(retry=None)
def odd(*, how: str) -> None:
    """Raise an exception that is hard to record."""
    match how:
        case "own cause":
            error = ValueError("circle")
            raise error from error
        case "no text":
            raise NoText
        case "stop iteration":
            next(iter(()))
        case "generator":
            raise GeneratorExit
        case "exit":
            raise SystemExit(2)
        case "keyboard":
            raise KeyboardInterrupt
        case "memory":
            bytearray(1 << 60)
        case "recursion":
            odd.func(how="recursion")
        case "group":
            raise ExceptionGroup("several", [ValueError("one"), KeyError("two")])
        case "zero byte":
            raise ValueError("a\0b")
        case "no unicode":
            raise ValueError("\ud800")
        case "long":
            raise ValueError("x" * 10_000_000)
        case "deep":
            error = ValueError("the first")
            for _ in range(5_000):
                try:
                    raise ValueError from error
                except ValueError as following:
                    error = following
            raise error
        case "no class":
            raise type("", (Exception,), {"__module__": None})


@faulty()
def dies(*, how: str) -> None:
    """End the worker's process."""
    match how:
        case "exit":
            os._exit(0)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "segfault":
            ctypes.string_at(0)
        case "abort":
            os.abort()


@faulty()
async def cancels_itself() -> None:
    raise asyncio.CancelledError
