# The job by the name that the bridge has for it. The database stays as it is.

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('jobs', '0001_initial'),
        ('{{ cookiecutter.app_name }}', '0001_initial'),
    ]

    operations = [
        migrations.AlterField(
            model_name='contactimport',
            name='job',
            field=models.ForeignKey(db_constraint=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='jobs.queuedjob'),
        ),
    ]
