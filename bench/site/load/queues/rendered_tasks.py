"""The rendered project's worker: copied into its `tasks` package."""

import os
from typing import Any

from psycopg import AsyncConnection

from load import jobs
from load.queues.rendered import JOBS

from . import app

for name, body in {**jobs.SYNC, **jobs.ASYNC, "locked": jobs.noop}.items():
    JOBS[name].task(app)(body)


async def only_sort(connection: AsyncConnection[Any]) -> None:
    """Turn sorting off, but do not turn autocommit on."""
    await connection.execute("SET enable_sort = off")
    await connection.commit()


async def only_autocommit(connection: AsyncConnection[Any]) -> None:
    """Turn autocommit on, but do not turn sorting off."""
    await connection.set_autocommit(True)


connector: Any = app.connector
match os.environ.get("BENCH_VARIANT"):
    case "no autocommit":
        connector._pool_args["configure"] = only_sort
    case "sort":
        connector._pool_args["configure"] = only_autocommit
