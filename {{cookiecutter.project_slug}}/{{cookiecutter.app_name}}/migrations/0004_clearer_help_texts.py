# Clearer help texts. The database stays as it is.

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('{{ cookiecutter.app_name }}', '0003_outcome'),
    ]

    operations = [
        migrations.AlterField(
            model_name='contactimport',
            name='columns',
            field=models.JSONField(help_text='A field of Contact for each, or empty.'),
        ),
        migrations.AlterField(
            model_name='contactimport',
            name='cursor',
            field=models.PositiveBigIntegerField(help_text='Characters processed.'),
        ),
        migrations.AlterField(
            model_name='contactimport',
            name='digest',
            field=models.BinaryField(help_text="The file's SHA-256 while its text is kept.", max_length=32, null=True),
        ),
        migrations.AlterField(
            model_name='contactimport',
            name='line',
            field=models.PositiveBigIntegerField(help_text='Lines processed.'),
        ),
        migrations.AlterField(
            model_name='contactimport',
            name='outcome',
            field=models.CharField(blank=True, choices=[('cancelled', 'Cancelled'), ('failed', 'Failed')], db_default='', help_text='How it stopped. The job says so too, but is pruned earlier.', max_length=10),
        ),
        migrations.AlterField(
            model_name='contactimport',
            name='started_at',
            field=models.DateTimeField(blank=True, help_text='When a worker started or resumed it.', null=True),
        ),
        migrations.AlterField(
            model_name='contactimport',
            name='started_line',
            field=models.PositiveBigIntegerField(default=0, help_text='Lines processed before that.'),
        ),
        migrations.AlterField(
            model_name='rejectedrow',
            name='values',
            field=models.JSONField(help_text='Its values, as far as they can be read.'),
        ),
    ]
