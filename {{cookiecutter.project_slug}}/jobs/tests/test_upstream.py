"""Procrastinate still has what the machinery leans on without a promise."""

import logging

import pytest
from django.core.exceptions import ImproperlyConfigured
from procrastinate.worker import Worker

from .. import bridge, upstream
from ..bridge import job
from ..testing import worker_app


def test_nothing_that_the_machinery_leans_on_has_moved() -> None:
    """If it has, see how it is done now, and mend `jobs/upstream.py`."""
    assert upstream.moved() == []


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version of Procrastinate."""
    monkeypatch.setattr(upstream, "moved", lambda: ["_process_job in worker.py"])
    atomic = [name for name, one in bridge.declared.items() if one.atomic]
    for name in atomic:
        monkeypatch.delitem(bridge.declared, name)


def make_worker() -> Worker:
    """Return what the worker's app runs."""
    app = worker_app()
    assert isinstance(app, upstream.WorkerApp)
    return app.make_worker()


def test_where_it_has_procrastinates_own_worker_runs(
    changed: None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        worker = make_worker()
    assert not isinstance(worker, upstream.Worker)
    (record,) = caplog.records
    assert "_process_job in worker.py" in record.getMessage()


def test_atomic_jobs_are_not_run_by_halves(changed: None) -> None:
    @job(atomic=True)
    def pay() -> None:
        """Do it once."""

    with pytest.raises(ImproperlyConfigured, match=r"tests\.test_upstream\.pay"):
        make_worker()
