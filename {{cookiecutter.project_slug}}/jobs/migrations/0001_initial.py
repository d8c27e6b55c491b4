import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("procrastinate", "0036_add_worker_model"),
    ]

    operations = [
        migrations.CreateModel(
            name="QueuedJob",
            fields=[],
            options={
                "verbose_name": "job",
                "permissions": [
                    ("retry_job", "Can run failed jobs again"),
                    ("cancel_job", "Can cancel waiting jobs"),
                    ("abort_job", "Can ask running jobs to stop"),
                    ("run_job_now", "Can run scheduled jobs now"),
                ],
                "proxy": True,
                "default_permissions": ("view",),
                "indexes": [],
                "constraints": [],
            },
            bases=("procrastinate.procrastinatejob",),
        ),
        migrations.CreateModel(
            name="QueueSample",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True,
                        primary_key=True,
                        serialize=False,
                        verbose_name="ID",
                    ),
                ),
                ("minute", models.DateTimeField()),
                ("queue", models.CharField(max_length=128)),
                ("waiting", models.PositiveIntegerField()),
                ("running", models.PositiveIntegerField()),
                (
                    "wait",
                    models.FloatField(
                        verbose_name="seconds that the oldest due job has waited"
                    ),
                ),
            ],
            options={
                "default_permissions": (),
                "constraints": [
                    models.UniqueConstraint(
                        fields=("minute", "queue"), name="one_sample_a_minute"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="JobFailure",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True,
                        primary_key=True,
                        serialize=False,
                        verbose_name="ID",
                    ),
                ),
                ("attempt", models.PositiveIntegerField()),
                ("exception", models.CharField(max_length=200)),
                ("message", models.TextField()),
                ("traceback", models.TextField()),
                ("host", models.CharField(max_length=255)),
                ("duration", models.FloatField(null=True, verbose_name="seconds")),
                (
                    "at",
                    models.DateTimeField(
                        db_index=True, default=django.utils.timezone.now
                    ),
                ),
                (
                    "job",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="failures",
                        to="jobs.queuedjob",
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
                "default_permissions": ("view",),
            },
        ),
    ]
