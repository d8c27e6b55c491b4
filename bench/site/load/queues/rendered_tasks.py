"""The rendered project's worker: copied into its `tasks` package."""

import os
import select
import time
from typing import Any
from weakref import WeakKeyDictionary

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from load import jobs
from load.queues.rendered import JOBS

from . import app

for name, body in {**jobs.SYNC, **jobs.ASYNC, "locked": jobs.noop}.items():
    JOBS[name].task(app)(body)


async def seldom(connection: AsyncConnection[Any]) -> None:
    """Check a connection once a second, or if the server has sent something."""
    now = time.monotonic()
    unread = select.poll()
    unread.register(connection.fileno(), select.POLLIN)
    if now > checked.get(connection, 0) + 1 or unread.poll(0):
        await AsyncConnectionPool.check_connection(connection)
        checked[connection] = now


def pool_with(check: Any) -> Any:
    """Return a factory of pools that check their connections in another way."""
    return lambda **options: AsyncConnectionPool(**options | {"check": check})


async def only_sort(connection: AsyncConnection[Any]) -> None:
    """Turn sorting off, but do not turn autocommit on."""
    await connection.execute("SET enable_sort = off")
    await connection.commit()


async def only_autocommit(connection: AsyncConnection[Any]) -> None:
    """Turn autocommit on, but do not turn sorting off."""
    await connection.set_autocommit(True)


checked: WeakKeyDictionary[AsyncConnection[Any], float] = WeakKeyDictionary()
connector: Any = app.connector
match os.environ.get("BENCH_VARIANT"):
    case "no autocommit":
        connector._pool_args["configure"] = only_sort
    case "no check":
        connector._pool_factory = pool_with(check=None)
    case "seldom check":
        connector._pool_factory = pool_with(check=seldom)
    case "sort":
        connector._pool_args["configure"] = only_autocommit
    case "prepared":
        connector._pool_args["kwargs"]["prepare_threshold"] = 2
