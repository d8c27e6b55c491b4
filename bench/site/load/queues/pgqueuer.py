"""PgQueuer: enqueues on Django's connection; its worker is async and gives sync jobs a thread."""

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import django
from django.apps import apps
from django.db import connection

if not apps.apps_ready:
    django.setup()

from pgqueuer import Job, PgQueuer
from pgqueuer.db import AsyncpgPoolDriver, SyncPsycopgDriver
from pgqueuer.queries import SyncQueries

from load import jobs


@asynccontextmanager
async def worker() -> AsyncIterator[PgQueuer]:
    """Yield the worker, for `pgq run`."""
    async with asyncpg.create_pool(os.environ["DATABASE_URL"]) as pool:
        queue = PgQueuer(AsyncpgPoolDriver(pool))
        for name, body in jobs.ASYNC.items():
            queue.entrypoint(name)(unpacked(body))
        for name, body in jobs.SYNC.items():
            queue.entrypoint(name)(unpacked(functools.partial(asyncio.to_thread, body)))
        yield queue


def unpacked(body: Callable[[float], Any]) -> Callable[[Job], Any]:
    """Return an entry point that calls a job with what was enqueued."""

    async def entrypoint(job: Job) -> None:
        assert job.payload
        await body(float(job.payload))

    return entrypoint


@functools.cache
def queries() -> SyncQueries:
    """Return the queries that enqueue on Django's connection, and so in its transactions."""
    connection.ensure_connection()
    return SyncQueries(SyncPsycopgDriver(connection.connection))


def enqueue(name: str, sent: float) -> None:
    """Add one job to the queue."""
    queries().enqueue(name, str(sent).encode())


def enqueue_many(name: str, sents: list[float]) -> None:
    """Add jobs to the queue in one call."""
    payloads = [str(sent).encode() for sent in sents]
    queries().enqueue([name] * len(sents), payloads, [0] * len(sents))
