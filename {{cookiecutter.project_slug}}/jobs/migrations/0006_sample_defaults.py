from django.db import migrations, models


class Migration(migrations.Migration):
    """A worker that is older than these columns goes on taking samples."""

    dependencies = [("jobs", "0005_django_tasks")]

    operations = [
        migrations.AlterField(
            model_name="queuesample",
            name="succeeded",
            field=models.PositiveIntegerField(default=0, db_default=0),
        ),
        migrations.AlterField(
            model_name="queuesample",
            name="failed",
            field=models.PositiveIntegerField(default=0, db_default=0),
        ),
    ]
