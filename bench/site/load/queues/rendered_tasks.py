"""The rendered project's worker: copied into its `tasks` package."""

from load import jobs
from load.queues.rendered import JOBS

from . import app

for name, body in {**jobs.SYNC, **jobs.ASYNC}.items():
    JOBS[name].task(app)(body)
