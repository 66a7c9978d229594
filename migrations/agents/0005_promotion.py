# ruff: noqa: N999, RUF012

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('agents', '0004_log_watches'),
        ('fleet', '0002_clusters_retire'),
    ]

    operations = [
        migrations.AddField(
            model_name='servingseat',
            name='promoted',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='fleet.cluster'),
        ),
        migrations.AddField(
            model_name='planestate',
            name='database_identity',
            field=models.CharField(blank=True, db_default='', default='', max_length=128),
        ),
    ]
