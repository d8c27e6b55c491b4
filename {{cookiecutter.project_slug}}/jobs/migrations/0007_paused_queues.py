import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    """Queues from which workers take no jobs."""

    dependencies = [("jobs", "0006_sample_defaults")]

    operations = [
        migrations.CreateModel(
            name="PausedQueue",
            fields=[
                (
                    "queue",
                    models.CharField(
                        max_length=128, primary_key=True, serialize=False
                    ),
                ),
                ("who", models.CharField(max_length=200)),
                ("why", models.CharField(max_length=200)),
                ("since", models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={
                "permissions": [("pause_queue", "Can pause and resume queues")],
                "default_permissions": (),
            },
        ),
    ]
