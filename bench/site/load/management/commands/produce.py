"""Enqueues jobs, as a view of the site would do it."""

import json
import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from django.test import Client

from load.jobs import MARK
from load.models import Item

CHUNK = 500


class Command(BaseCommand):
    """Enqueue jobs, and print as JSON what was measured."""

    ACTIONS = "fill", "enqueue", "latency", "login", "numbered", "rollback", "commit", "unfinished"
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the command line."""
        parser.add_argument("action", choices=self.ACTIONS)
        parser.add_argument("job")
        parser.add_argument("number", type=int)

    def handle(self, *, action: str, job: str, number: int, **options: Any) -> None:
        """Run one action."""
        self.queue = import_module(f"load.queues.{os.environ['BENCH_QUEUE']}")
        self.job = job
        self.stdout.write(json.dumps(getattr(self, action)(number)))

    def fill(self, number: int) -> None:
        """Enqueue jobs in the fastest way that the queue offers."""
        many = getattr(self.queue, "enqueue_many", None)
        for start in range(0, number, CHUNK):
            size = min(CHUNK, number - start)
            if many:
                many(self.job, [time.time()] * size)
            else:
                for _ in range(size):
                    self.one()

    def enqueue(self, number: int) -> dict[str, float]:
        """Return calls per second, one by one and in batches, and how much slower a row with a job is."""
        for call in 10 * (self.one, self.row, self.row_and_job):
            call()
        before = time.process_time()
        figures = {"one by one, calls/s": number / seconds(self.one, number)}
        figures["one by one, CPU ms/call"] = 1000 * (time.process_time() - before) / number
        if many := getattr(self.queue, "enqueue_many", None):
            sents = [time.time()] * CHUNK
            rate = 4 * CHUNK / seconds(lambda: many(self.job, sents), 4)
            figures[f"in batches of {CHUNK}, calls/s"] = rate
        # In turn, so that other load on the machine affects both alike.
        turns = [(seconds(self.row), seconds(self.row_and_job)) for _ in range(number)]
        row, row_and_job = map(sum, zip(*turns, strict=True))
        return figures | {"row kept": row / row_and_job}

    def one(self) -> None:
        self.queue.enqueue(self.job, time.time())

    def row(self) -> None:
        with transaction.atomic():
            Item.objects.create()

    def row_and_job(self) -> None:
        with transaction.atomic():
            Item.objects.create()
            self.one()

    def login(self, number: int) -> str:
        """Return the session of a user who has logged in."""
        client = Client()
        client.force_login(get_user_model().objects.create_superuser("bench"))
        return client.cookies["sessionid"].value

    def latency(self, number: int) -> None:
        """Enqueue one job after the other, each when the last one has started."""
        marks = Path(os.environ["BENCH_MARKS"])
        for count in range(1, number + 1):
            time.sleep(random.uniform(0.02, 0.1))
            self.one()
            end = time.monotonic() + 30
            while marks.stat().st_size < count * MARK.size and time.monotonic() < end:
                time.sleep(0.005)

    def numbered(self, number: int) -> None:
        """Enqueue jobs with the arguments 1, 2, 3 and so on."""
        for job in range(1, number + 1):
            self.queue.enqueue(self.job, float(job))

    def rollback(self, number: int) -> None:
        """Create rows and enqueue a job about each, in transactions that fail."""
        for _ in range(number):
            with suppress(CommandError), transaction.atomic():
                self.row_and_its_job()
                raise CommandError("the transaction fails")

    def commit(self, number: int) -> None:
        """Do the same in transactions that succeed, in processes that die right afterwards.

        Raises:
            CommandError: A process ended before its commit.
        """
        for _ in range(number):
            if not (child := os.fork()):
                with transaction.atomic():
                    transaction.on_commit(lambda: os.kill(os.getpid(), signal.SIGKILL))
                    self.row_and_its_job()
            if os.waitpid(child, 0)[1] != signal.SIGKILL:
                raise CommandError("a process ended before its commit")

    def row_and_its_job(self) -> None:
        self.queue.enqueue(self.job, float(Item.objects.create().pk))

    def unfinished(self, number: int) -> list[float]:
        """Return the arguments of the jobs that the queue still has to do."""
        return self.queue.unfinished(self.job)


def seconds(call: Callable[[], Any], number: int = 1) -> float:
    """Return how long a number of calls takes."""
    begun = time.perf_counter()
    for _ in range(number):
        call()
    return time.perf_counter() - begun
