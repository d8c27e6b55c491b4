# What separates the columns of a file.

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('{{ cookiecutter.app_name }}', '0004_clearer_help_texts'),
    ]

    operations = [
        migrations.AddField('contactimport', 'delimiter', models.CharField(db_default=',', max_length=1)),
        migrations.AlterField('contactimport', 'columns', models.JSONField(help_text="Their names in the file's header.")),
    ]
