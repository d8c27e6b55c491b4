from django.db import migrations


class Migration(migrations.Migration):
    """Indexes on the queue's own table, which may have them one day by itself."""

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
    ]
