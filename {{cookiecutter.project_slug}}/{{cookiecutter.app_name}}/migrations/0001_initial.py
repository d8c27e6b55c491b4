# The first migration.

import django.db.models.deletion
import django.db.models.functions.comparison
import django.db.models.functions.text
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('procrastinate', '0036_add_worker_model'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Contact',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('email', models.EmailField(max_length=254, unique=True)),
                ('name', models.CharField(blank=True, max_length=200)),
                ('company', models.CharField(blank=True, max_length=200)),
                ('phone', models.CharField(blank=True, max_length=50)),
            ],
            options={
                'indexes': [models.Index(django.db.models.functions.comparison.Collate(django.db.models.functions.text.Upper('email'), 'C'), name='contacts_by_email'), models.Index(django.db.models.functions.comparison.Collate(django.db.models.functions.text.Upper('name'), 'C'), name='contacts_by_name'), models.Index(django.db.models.functions.comparison.Collate(django.db.models.functions.text.Upper('company'), 'C'), name='contacts_by_company')],
            },
        ),
        migrations.CreateModel(
            name='ContactImport',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('filename', models.CharField(max_length=255)),
                ('digest', models.BinaryField(help_text="The file's, as long as its text is kept.", max_length=32, null=True)),
                ('columns', models.JSONField(help_text='The header: a field of Contact, or empty.')),
                ('length', models.PositiveBigIntegerField(help_text='Characters in the file.')),
                ('cursor', models.PositiveBigIntegerField(help_text='Characters dealt with.')),
                ('line', models.PositiveBigIntegerField(help_text='Lines dealt with.')),
                ('imported', models.PositiveBigIntegerField(default=0, help_text='Good rows.')),
                ('rejected', models.PositiveBigIntegerField(default=0, help_text='Bad rows.')),
                ('reason', models.TextField(blank=True, help_text='Why it stopped.')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('started_at', models.DateTimeField(blank=True, help_text='When a worker began, or went on.', null=True)),
                ('started_line', models.PositiveBigIntegerField(default=0, help_text='Lines dealt with before.')),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
                ('summary_sent_at', models.DateTimeField(blank=True, null=True)),
                ('job', models.ForeignKey(db_constraint=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='procrastinate.procrastinatejob')),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to=settings.AUTH_USER_MODEL)),
            ],
        ),
        migrations.CreateModel(
            name='ImportPiece',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.PositiveIntegerField()),
                ('content', models.BinaryField()),
                ('contact_import', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='pieces', to='{{ cookiecutter.app_name }}.contactimport')),
            ],
        ),
        migrations.CreateModel(
            name='RejectedRow',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('line', models.PositiveBigIntegerField(help_text='Where it begins; the header is 1.')),
                ('reason', models.TextField()),
                ('values', models.JSONField(help_text='What it says, as far as it can be read.')),
                ('contact_import', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='rejected_rows', to='{{ cookiecutter.app_name }}.contactimport')),
            ],
        ),
        migrations.AddIndex(
            model_name='contactimport',
            index=models.Index(fields=['owner', '-created_at'], name='imports_of_owner'),
        ),
        migrations.AddConstraint(
            model_name='contactimport',
            constraint=models.UniqueConstraint(fields=('owner', 'digest'), name='unique_file_of_owner'),
        ),
        migrations.AddConstraint(
            model_name='importpiece',
            constraint=models.UniqueConstraint(fields=('contact_import', 'number'), name='unique_piece'),
        ),
        migrations.AddConstraint(
            model_name='rejectedrow',
            constraint=models.UniqueConstraint(fields=('contact_import', 'line'), name='unique_rejected_line'),
        ),
    ]
