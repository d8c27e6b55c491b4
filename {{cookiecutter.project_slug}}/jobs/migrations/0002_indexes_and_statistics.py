from django.db import migrations


class Migration(migrations.Migration):
    """What the queue's own table lacks, and may have one day by itself."""

    dependencies = [("jobs", "0001_initial")]

    operations = [
        # A worker's row is deleted when it stops: without the index, that reads all jobs.
        migrations.RunSQL(
            "CREATE INDEX IF NOT EXISTS jobs_worker_id_idx"
            " ON procrastinate_jobs (worker_id) WHERE worker_id IS NOT NULL",
            "DROP INDEX IF EXISTS jobs_worker_id_idx",
        ),
        # The admin's list of what failed, among millions of jobs that did not.
        migrations.RunSQL(
            "CREATE INDEX IF NOT EXISTS jobs_failed_idx"
            " ON procrastinate_jobs (id) WHERE status = 'failed'",
            "DROP INDEX IF EXISTS jobs_failed_idx",
        ),
        # Does a job's lock let it start? Without the index, that reads all that wait.
        migrations.RunSQL(
            "CREATE INDEX IF NOT EXISTS jobs_lock_idx"
            " ON procrastinate_jobs (lock, priority DESC, id)"
            " WHERE lock IS NOT NULL AND status IN ('todo', 'doing')",
            "DROP INDEX IF EXISTS jobs_lock_idx",
        ),
        # No statistics are better than those of an hour when nothing waited: by them
        # PostgreSQL would read all waiting jobs, however many, to find the next one.
        migrations.RunSQL(
            "ALTER TABLE procrastinate_jobs"
            " ALTER status SET STATISTICS 0, ALTER lock SET STATISTICS 0",
            "ALTER TABLE procrastinate_jobs"
            " ALTER status SET STATISTICS -1, ALTER lock SET STATISTICS -1",
        ),
    ]
