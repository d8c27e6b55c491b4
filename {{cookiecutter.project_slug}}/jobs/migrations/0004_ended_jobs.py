from django.db import migrations, models


class Migration(migrations.Migration):
    """Samples count what ended; a permission to view arguments."""

    dependencies = [("jobs", "0003_runs_and_workers")]

    operations = [
        migrations.AlterModelOptions(
            name="queuedjob",
            options={
                "default_permissions": ("view",),
                "permissions": [
                    ("retry_job", "Can run failed jobs again"),
                    ("cancel_job", "Can cancel waiting jobs"),
                    ("abort_job", "Can ask running jobs to stop"),
                    ("run_job_now", "Can run scheduled jobs now"),
                    ("view_arguments", "Can view the arguments of jobs"),
                ],
                "verbose_name": "job",
            },
        ),
        migrations.AddField(
            model_name="queuesample",
            name="succeeded",
            field=models.PositiveIntegerField(default=0),
        ),
        migrations.AddField(
            model_name="queuesample",
            name="failed",
            field=models.PositiveIntegerField(default=0),
        ),
        migrations.AddField(
            model_name="queuesample",
            name="event",
            field=models.BigIntegerField(
                help_text="The last event that was counted.", null=True
            ),
        ),
    ]
