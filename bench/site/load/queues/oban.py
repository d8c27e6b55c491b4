"""Oban: async only, so it enqueues outside of Django's transaction; sync jobs get a thread."""

import asyncio
import functools
import os
from collections.abc import Callable
from typing import Any

import django
from django.apps import apps

if not apps.apps_ready:
    django.setup()

from oban import Oban, job

from load import jobs


def worker(name: str, body: Callable[[float], Any]) -> Any:
    """Register a job under its name."""

    async def process(sent: float) -> None:
        await body(sent)

    process.__name__ = process.__qualname__ = name
    return job(queue="default")(process)


WORKERS = {name: worker(name, body) for name, body in jobs.ASYNC.items()} | {
    name: worker(name, functools.partial(asyncio.to_thread, body))
    for name, body in jobs.SYNC.items()
}


@functools.cache
def client() -> tuple[asyncio.Runner, Oban]:
    """Return an event loop, and the Oban client in it."""
    runner = asyncio.Runner()

    async def connect() -> Oban:
        return Oban(pool=await Oban.create_pool(os.environ["OBAN_DSN"]))

    return runner, runner.run(connect())


def enqueue(name: str, sent: float) -> None:
    """Add one job to the queue."""
    runner, oban = client()
    runner.run(oban.enqueue(WORKERS[name].new(sent=sent)))


def enqueue_many(name: str, sents: list[float]) -> None:
    """Add jobs to the queue in one call."""
    runner, oban = client()
    runner.run(oban.enqueue_many(*(WORKERS[name].new(sent=sent) for sent in sents)))
