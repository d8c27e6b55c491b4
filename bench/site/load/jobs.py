"""The jobs that every queue runs: the same functions, so that only the queues differ."""

import os
import random
import struct
import time

ITEMS = 1000
WORK = 0.1  # seconds at most, before an effect and after it
MARK = struct.Struct("dd")


def mark(sent: float) -> None:
    """Note that a job was done: one write of 16 bytes, which takes microseconds."""
    file = os.open(os.environ["BENCH_MARKS"], os.O_WRONLY | os.O_APPEND)
    os.write(file, MARK.pack(sent, time.time()))
    os.close(file)


def noop(sent: float) -> None:
    """Do nothing."""
    mark(sent)


def real(sent: float) -> None:
    """Read a row and write it."""
    from load.models import Item

    item = Item.objects.get(pk=random.randint(1, ITEMS))
    item.count += 1
    item.save(update_fields=["count"])
    mark(sent)


def effect(sent: float) -> None:
    """Write a row in the middle of some work; what was sent is the job's number."""
    from load.models import Effect

    # At random, so that a kill finds some jobs before their effect and some after it.
    time.sleep(random.uniform(0, WORK))
    Effect.objects.create(job=int(sent))
    time.sleep(random.uniform(0, WORK))


async def anoop(sent: float) -> None:
    """Do nothing, without a thread."""
    mark(sent)


async def areal(sent: float) -> None:
    """Read a row and write it, through Django's async methods."""
    from load.models import Item

    item = await Item.objects.aget(pk=random.randint(1, ITEMS))
    item.count += 1
    await item.asave(update_fields=["count"])
    mark(sent)


SYNC = {"noop": noop, "real": real, "effect": effect}
ASYNC = {"anoop": anoop, "areal": areal}
