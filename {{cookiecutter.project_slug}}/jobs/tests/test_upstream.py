"""Procrastinate still has the undocumented names that the machinery uses."""

import logging

import pytest
from django.core.exceptions import ImproperlyConfigured
from procrastinate.worker import Worker

from .. import bridge, upstream
from ..bridge import job
from ..testing import worker_app


def test_procrastinate_has_all_names_that_are_used() -> None:
    """If it lacks one, adapt `jobs/upstream.py` to the new version."""
    assert upstream.missing_names() == []


@pytest.fixture
def untested_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version of Procrastinate that lacks a name; no job is atomic."""
    monkeypatch.setattr(
        upstream, "missing_names", lambda: ["_process_job in worker.py"]
    )
    atomic = [name for name, one in bridge.declared.items() if one.atomic]
    for name in atomic:
        monkeypatch.delitem(bridge.declared, name)


def make_worker() -> Worker:
    """Return what the worker's app runs."""
    app = worker_app()
    assert isinstance(app, upstream.WorkerApp)
    return app.make_worker()


def test_with_an_untested_version_procrastinates_own_worker_runs(
    untested_version: None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        worker = make_worker()
    assert not isinstance(worker, upstream.Worker)
    (record,) = caplog.records
    assert "_process_job in worker.py" in record.getMessage()


def test_an_untested_version_runs_no_atomic_jobs(untested_version: None) -> None:
    @job(atomic=True)
    def pay() -> None:
        """Do it once."""

    with pytest.raises(ImproperlyConfigured, match=r"tests\.test_upstream\.pay"):
        make_worker()
