# How an import stopped, for when its job has been pruned.

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('{{ cookiecutter.app_name }}', '0002_queued_job'),
    ]

    operations = [
        migrations.AddField(
            model_name='contactimport',
            name='outcome',
            field=models.CharField(blank=True, choices=[('cancelled', 'Cancelled'), ('failed', 'Failed')], db_default='', help_text='How it stopped: the job says so too, but is pruned first.', max_length=10),
        ),
    ]
