"""Awa: enqueues on Django's connection; its worker is async and gives sync jobs a thread."""

import asyncio
import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import django
from awa import AsyncClient, Client, Job
from awa.bridge import insert_job_sync
from django.apps import apps
from django.db import connection

if not apps.apps_ready:
    django.setup()

from load import jobs


@dataclass
class Arguments:
    """What a job is called with."""

    sent: float


async def work() -> None:
    """Run the worker."""
    client = AsyncClient(os.environ["DATABASE_URL"])
    for name, body in jobs.ASYNC.items():
        client.task(Arguments, kind=name)(unpacked(body))
    for name, body in jobs.SYNC.items():
        client.task(Arguments, kind=name)(unpacked(functools.partial(asyncio.to_thread, body)))
    await client.start([("default", 100)])
    await asyncio.Event().wait()


def unpacked(body: Callable[[float], Any]) -> Callable[[Job], Any]:
    """Return a handler that calls a job with what was enqueued."""

    async def handler(job: Job) -> None:
        await body(job.args.sent)

    return handler


def enqueue(name: str, sent: float) -> None:
    """Add one job to the queue, in Django's transaction."""
    insert_job_sync(connection, Arguments(sent), kind=name)


@functools.cache
def client() -> Client:
    """Return a client, which has connections of its own."""
    return Client(os.environ["DATABASE_URL"])


def install() -> None:
    """Make the tables of its newest storage."""
    client().migrate()
    client().install_queue_storage()


def enqueue_many(name: str, sents: list[float]) -> None:
    """Add jobs to the queue in one call, outside of Django's transactions."""
    client().enqueue_many_copy([Arguments(sent) for sent in sents], kind=name)


if __name__ == "__main__":
    install() if sys.argv[1:] == ["install"] else asyncio.run(work())
