# ruff: noqa: N999, RUF012

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('placements', '0004_demand'),
    ]

    operations = [
        migrations.AddField(
            model_name='assignment',
            name='handover_replicas',
            field=models.PositiveIntegerField(db_default=0, default=0),
        ),
    ]
