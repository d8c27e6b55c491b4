from django.db import migrations, models

from load.jobs import ITEMS


def create_items(apps, schema_editor):
    Item = apps.get_model("load", "Item")
    Item.objects.bulk_create(Item() for _ in range(ITEMS))


class Migration(migrations.Migration):
    operations = [
        migrations.CreateModel(
            "Item",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("count", models.IntegerField(default=0)),
            ],
        ),
        migrations.CreateModel(
            "Call",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("name", models.CharField(max_length=10)),
                ("sent", models.FloatField()),
            ],
        ),
        migrations.RunPython(create_items),
    ]
