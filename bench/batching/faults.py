"""Jobs for the fault tests, copied into a rendered project's `tasks`; they turn batching on."""

import asyncio
import time

from django.conf import settings
from jobs.bridge import job
from jobs.retry import Retry

from batching import make_job_manager

from . import app

app.job_manager = make_job_manager(app.connector, settings.WORKER_CONCURRENCY)


async def sleep(*, seconds: float) -> None:
    """Take some time."""
    await asyncio.sleep(seconds)


def block(*, seconds: float) -> None:
    """Take some time in a thread."""
    time.sleep(seconds)


async def fail() -> None:
    """Fail, again and again."""
    raise ConnectionError


for body in (sleep, block, fail):
    job(name=f"faults.{body.__name__}", retry=Retry(max_attempts=3, wait=0))(body).task(app)(body)
