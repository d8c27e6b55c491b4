from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("load", "0001_initial")]
    operations = [
        migrations.CreateModel(
            "Effect",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("job", models.BigIntegerField()),
            ],
        ),
    ]
