"""How a run of a job ends: by the worker that took it, once, or not at all.

Procrastinate ends a job by its id alone. A worker that was thought dead, and whose job
was rescued, could so overwrite what became of the job since. Here an end holds only for
the run that took the job: each end raises the number of attempts, by which it is told.
"""

# procrastinate_finish_job_v1 and procrastinate_retry_job_v2 with that condition. A
# worker's row may be gone although the worker lives; then worker_id is NULL.
_THIS_RUN = """
id = %(job_id)s AND status = 'doing' AND attempts = %(attempts)s
    AND (worker_id = %(worker_id)s OR worker_id IS NULL)
"""

FINISH = f"""
UPDATE procrastinate_jobs SET status = %(status)s::procrastinate_job_status,
    attempts = attempts + 1, abort_requested = false
WHERE {_THIS_RUN} RETURNING id
"""

DELETE = f"DELETE FROM procrastinate_jobs WHERE {_THIS_RUN} RETURNING id"

# A job that somebody asked to stop does not run again.
RETRY = f"""
UPDATE procrastinate_jobs SET
    status = CASE WHEN abort_requested THEN 'aborted'::procrastinate_job_status
        ELSE 'todo' END,
    attempts = attempts + 1, abort_requested = false,
    scheduled_at = coalesce(%(retry_at)s, now()),
    priority = coalesce(%(priority)s, priority),
    queue_name = coalesce(%(queue)s, queue_name),
    lock = coalesce(%(lock)s, lock)
WHERE {_THIS_RUN} RETURNING id
"""

# What was cut short through no fault of its own is counted, so that a retry strategy
# can leave it out.
GIVE_BACK = f"""
WITH run AS ({RETRY})
INSERT INTO jobs_interruption AS kept (job_id, give_backs, deaths)
SELECT id, 1, 0 FROM run
ON CONFLICT (job_id) DO UPDATE SET give_backs = kept.give_backs + 1
RETURNING job_id AS id
"""

INTERRUPTIONS = """
SELECT give_backs, deaths FROM jobs_interruption WHERE job_id = %(job_id)s
"""
