"""The rendered project's worker: copied into its `tasks` package."""

import os
from typing import Any

from django.conf import settings
from psycopg_pool import AsyncConnectionPool

from batching import make_job_manager
from load import jobs
from load.queues.rendered import JOBS

from . import app

for name, body in {**jobs.SYNC, **jobs.ASYNC}.items():
    JOBS[name].task(app)(body)


def without_check(**options: Any) -> AsyncConnectionPool:
    """Make a pool that does not ask a connection whether it still lives."""
    return AsyncConnectionPool(**options | {"check": None})


connector: Any = app.connector
match os.environ.get("BENCH_VARIANT"):
    case "no autocommit":
        connector._pool_args.pop("configure")
    case "no check":
        connector._pool_factory = without_check
    case "batching":
        app.job_manager = make_job_manager(app.connector, settings.WORKER_CONCURRENCY)
    case "prepared":
        connector._pool_args["kwargs"]["prepare_threshold"] = 2
