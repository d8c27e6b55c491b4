"""Calls for mypy and pyright: they must report each line that ends in "# wrong", and no other.

Copied into a rendered project by test_contract.py.
"""

from datetime import timedelta

from jobs.bridge import Job, job
from jobs.retry import Retry
from procrastinate import JobContext
from tasks import app


@job(queue="mail", priority=1, lock="order:{order_id}", aliases=("shop.old",))
def ship(*, order_id: int, by: str = "air") -> None:
    """Ship an order."""


@job(retry=Retry(max_attempts=2))
def note(text: str, *, pages: list[int]) -> None:
    """Note something."""


@job()
def tick() -> None:
    """Take nothing."""


async def calls() -> None:
    ship.defer(order_id=1)
    ship.defer(order_id=1, by="sea")
    note.defer("a", pages=[1])
    tick.defer()
    ship.defer()  # wrong
    ship.defer(1)  # wrong
    ship.defer(order_pk=1)  # wrong
    ship.defer(order_id=1, to="Rome")  # wrong
    ship.defer(order_id="1")  # wrong
    ship.defer(order_id=None)  # wrong
    note.defer(pages=[1])  # wrong
    note.defer("a", pages=["1"])  # wrong
    note.defer("a", [1])  # wrong
    tick.defer(now=True)  # wrong
    ship.delay(order_id=1)  # wrong
    ship(order_id=1)  # wrong

    await ship.defer_async(order_id=1)
    await ship.defer_async(order_pk=1)  # wrong
    await ship.defer_async("1")  # wrong

    ship.configure(queue="slow", priority=2, lock=None, queueing_lock="one").defer(order_id=1)
    ship.configure(schedule_in=timedelta(hours=1)).defer(order_id=1)
    ship.configure(qeue="slow")  # wrong
    ship.configure(queue=None)  # wrong
    ship.configure(priority="high")  # wrong
    ship.configure(schedule_in=60)  # wrong
    ship.configure(schedule_in={"hours": 1})  # wrong
    ship.configure(schedule_at="tomorrow")  # wrong
    ship.configure(retry=None)  # wrong
    ship.configure(order_id=1)  # wrong
    ship.configure(priority=2).defer(order_pk=1)  # wrong

    ship.batch_defer([ship.call(order_id=1), ship.call(order_id=2, by="sea")])
    ship.batch_defer([note.call("a", pages=[])])  # wrong
    ship.batch_defer([{"order_id": 1}])  # wrong
    ship.batch_defer(ship.call(order_id=1))  # wrong
    ship.call(order_pk=1)  # wrong
    await ship.batch_defer_async([tick.call()])  # wrong

    other: Job[[int]] = ship  # wrong
    print(other)


@ship.task(app)
def right(*, order_id: int, by: str = "air") -> None: ...


@ship.task(app)
async def right_async(*, order_id: int, by: str = "air") -> None: ...


@ship.task(app, pass_context=True)
def right_with_context(context: JobContext, *, order_id: int, by: str = "air") -> None: ...


@ship.task(app)  # wrong
def other_name(*, order_pk: int, by: str = "air") -> None: ...


@ship.task(app)  # wrong
def other_type(*, order_id: str, by: str = "air") -> None: ...


@ship.task(app)  # wrong
def missing(*, order_id: int) -> None: ...


@ship.task(app)  # wrong
def one_more(*, order_id: int, by: str = "air", to: str) -> None: ...


@ship.task(app)  # wrong
def no_default(*, order_id: int, by: str) -> None: ...


@ship.task(app, pass_context=True)  # wrong
def no_context(*, order_id: int, by: str = "air") -> None: ...


@ship.task(app)  # wrong
def context_unasked(context: JobContext, *, order_id: int, by: str = "air") -> None: ...


@ship.task(app, pass_context=True)  # wrong
def other_context(context: int, *, order_id: int, by: str = "air") -> None: ...


@ship.task(app, queue="mail")  # wrong
def other_options(*, order_id: int, by: str = "air") -> None: ...


@job(qeue="mail")  # wrong
def misspelt() -> None: ...


@job(queue=1)  # wrong
def queue_number() -> None: ...


@job(priority="high")  # wrong
def priority_text() -> None: ...


@job(retry=3)  # wrong
def retry_number() -> None: ...


@job(aliases="shop.old")  # wrong
def aliases_text() -> None: ...


@job()  # wrong
def answer() -> int:
    return 1


@job  # wrong
def not_called() -> None: ...
