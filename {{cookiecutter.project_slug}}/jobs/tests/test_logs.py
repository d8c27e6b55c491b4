"""What is logged, and what never is."""

import asyncio
import json
import logging
import logging.config
from io import StringIO
from typing import Any

import pytest
from django.conf import settings
from procrastinate import App
from procrastinate.testing import InMemoryConnector

from .. import logs


@pytest.fixture
def lines() -> Any:
    """What production would log at DEBUG: JSON lines, parsed."""
    stream = StringIO()
    formatters: Any = settings.LOGGING["formatters"]
    config = logging.config.DictConfigurator({"version": 1})
    handler = logging.StreamHandler(stream)
    handler.setFormatter(config.configure_formatter(dict(formatters["json"])))
    handler.addFilter(logs.JobFilter())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.removeHandler(handler)
    root.setLevel(level)


SERVICE: dict[str, Any] = {}
exec(  # noqa: S102, as if it were a file of the project
    compile("def fail(): raise KeyError('nothing')", "/srv/shop/services.py", "exec"),
    SERVICE,
)


def run(fails: bool) -> None:
    """Let a worker run a job with a secret argument."""
    app = App(connector=InMemoryConnector())

    @app.task(name="log_in", queue="mail")
    def log_in(password: str) -> None:
        logging.getLogger("site").info("In the body")
        if fails:
            SERVICE["fail"]()

    async def work() -> None:
        async with app.open_async():
            await log_in.defer_async(password="hunter2) (")
            await app.run_worker_async(
                wait=False,
                install_signal_handlers=False,
                worker_middleware=[logs.with_job],
            )

    asyncio.run(work())


@pytest.mark.parametrize("fails", [True, False])
def test_arguments_are_logged_at_no_level(lines: Any, fails: bool) -> None:
    run(fails)
    assert "ERROR" in {line["levelname"] for line in lines()} or not fails
    assert "DEBUG" in {line["levelname"] for line in lines()}
    assert "hunter2" not in json.dumps(lines())


def test_every_line_of_a_job_has_the_jobs_fields(lines: Any) -> None:
    run(fails=True)
    fields = {"task": "log_in", "queue": "mail", "attempt": 1}
    for text in ("Starting job", "In the body", "Job log_in"):
        (line,) = [line for line in lines() if line["message"].startswith(text)]
        assert line.items() >= fields.items()
        assert line["job_id"]
    assert line["duration"] > 0
    assert line["time"]
    assert "KeyError" in line["exc_info"]


def test_a_failed_jobs_traceback_begins_in_its_own_code(lines: Any) -> None:
    """A page has the stored failure, which has all of it."""
    run(fails=True)
    (line,) = [line for line in lines() if line["message"].startswith("Job log_in")]
    _, first, *_ = line["exc_info"].splitlines()
    assert first == '  File "/srv/shop/services.py", line 1, in fail'
