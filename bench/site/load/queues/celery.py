"""Celery, with its fixup for Django."""

import json
import os
from base64 import b64decode

from celery import Celery

from load import jobs

app = Celery("load", namespace="CELERY")
app.config_from_object("django.conf:settings", namespace="CELERY")
TASKS = {name: app.task(name=name, ignore_result=True)(body) for name, body in jobs.SYNC.items()}


def enqueue(name: str, sent: float) -> None:
    """Add one job to the queue."""
    if os.environ.get("BENCH_VARIANT") == "on commit":
        TASKS[name].delay_on_commit(sent)
    else:
        TASKS[name].delay(sent)


def unfinished(name: str) -> list[float]:
    """Return the arguments of the jobs that wait in Redis, or were not acknowledged."""
    with app.connection_for_read() as connection:
        redis = connection.default_channel.client
        waiting = [json.loads(message) for message in redis.lrange("celery", 0, -1)]
        taken = [json.loads(message)[0] for message in redis.hvals("unacked")]
    return [json.loads(b64decode(message["body"]))[0][0] for message in waiting + taken]
