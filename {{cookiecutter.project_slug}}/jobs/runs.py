"""SQL that ends a run of a job, unless the job has been given to another worker.

Procrastinate ends a job by its id alone. So a worker that seemed dead, and whose job
was rescued, could overwrite what has happened to the job since. Here, a run can end a
job only while the job has the same worker and the same number of attempts: every end
increases that number.
"""

# The statements below are those of Procrastinate's functions (see `upstream.USED_NAMES`),
# with this condition. worker_id is NULL if the row of a living worker was deleted.
THIS_RUN = """
id = %(job_id)s AND status = 'doing' AND attempts = %(attempts)s
    AND (worker_id = %(worker_id)s OR worker_id IS NULL)
"""

FINISH = f"""
UPDATE procrastinate_jobs SET status = %(status)s::procrastinate_job_status,
    attempts = attempts + 1, abort_requested = false
WHERE {THIS_RUN} RETURNING id
"""

DELETE = f"DELETE FROM procrastinate_jobs WHERE {THIS_RUN} RETURNING id"

# A job that somebody asked to stop does not run again. The wait counts by the database's
# clock: this host's may be wrong.
RETRY = f"""
UPDATE procrastinate_jobs SET
    status = CASE WHEN abort_requested THEN 'aborted'::procrastinate_job_status
        ELSE 'todo' END,
    attempts = attempts + 1, abort_requested = false,
    scheduled_at = now() + %(retry_in)s * interval '1 second',
    priority = coalesce(%(priority)s, priority),
    queue_name = coalesce(%(queue)s, queue_name),
    lock = coalesce(%(lock)s, lock)
WHERE {THIS_RUN} RETURNING id
"""

# Counts the interruption, so that it does not use up one of the job's attempts.
GIVE_BACK = f"""
WITH run AS ({RETRY})
INSERT INTO jobs_interruption AS kept (job_id, give_backs, deaths)
SELECT id, 1, 0 FROM run
ON CONFLICT (job_id) DO UPDATE SET give_backs = kept.give_backs + 1
RETURNING job_id AS id
"""
