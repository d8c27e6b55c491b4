from django.db import migrations, models


class Migration(migrations.Migration):
    """Problems that people are told about."""

    dependencies = [("jobs", "0007_paused_queues")]

    operations = [
        migrations.CreateModel(
            name="Alert",
            fields=[
                (
                    "problem",
                    models.CharField(
                        max_length=200, primary_key=True, serialize=False
                    ),
                ),
                ("text", models.TextField()),
                (
                    "active",
                    models.BooleanField(
                        default=True, help_text="Whether it is not over."
                    ),
                ),
                (
                    "announced",
                    models.BooleanField(
                        default=False,
                        help_text="Whether people know of it, but not that it is over.",
                    ),
                ),
                (
                    "told_at",
                    models.DateTimeField(
                        help_text="When people were last told that it is not over.",
                        null=True,
                    ),
                ),
                (
                    "claimed_at",
                    models.DateTimeField(
                        help_text="Since when a worker is about to tell people.",
                        null=True,
                    ),
                ),
            ],
            options={
                "default_permissions": (),
            },
        ),
    ]
