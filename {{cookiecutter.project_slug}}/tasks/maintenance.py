"""The queue's upkeep, done by the queue itself.

A worker without any periodic task does not notice that it lost its database, so
something periodic always stays here.
"""

from procrastinate import JobContext, jobs
from procrastinate.exceptions import ConnectorException

from jobs.retry import JobStalled

from . import app


# Cron with seconds, which come last.
@app.periodic(cron="* * * * * */30")
@app.task(
    name="maintenance.rescue_stalled_jobs",
    queueing_lock="maintenance.rescue_stalled_jobs",
    pass_context=True,
)
async def rescue_stalled_jobs(context: JobContext, timestamp: int) -> None:
    """Give the jobs of dead workers back, or fail those that must not run twice."""
    manager = context.app.job_manager
    for job in await manager.get_stalled_jobs():
        task = context.app.tasks.get(job.task_name)
        retry = task and task.get_retry_exception(exception=JobStalled(), job=job)
        try:
            if retry:
                await manager.retry_job(job, retry_at=retry.retry_decision.retry_at)
            else:
                await manager.finish_job(job, jobs.Status.FAILED, delete_job=False)
        except ConnectorException:
            # It ended in the meantime, or another worker's rescue was first.
            continue
