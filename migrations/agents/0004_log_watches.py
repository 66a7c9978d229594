# ruff: noqa: N999, RUF012

import uuid

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('agents', '0003_serving_seats'),
        ('fleet', '0002_clusters_retire'),
    ]

    operations = [
        migrations.CreateModel(
            name='LogWatch',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('runtime_ref', models.CharField(max_length=255)),
                ('wanted_until', models.DateTimeField()),
                ('answered_at', models.DateTimeField(blank=True, null=True)),
                ('kept', models.BooleanField(default=True)),
                ('last_sequence', models.BigIntegerField(default=0)),
                ('readers', models.JSONField(default=list)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('cluster', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='fleet.cluster')),
                ('replica', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='log_watch', to='agents.replica')),
            ],
        ),
        migrations.CreateModel(
            name='LogLines',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('text', models.TextField()),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('watch', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='lines', to='agents.logwatch')),
            ],
        ),
        # What clients said must reach neither back-ups nor the WAL; after a crash both tables are empty. The sequence
        # goes on, or readers' cursors would lie beyond all that comes.
        migrations.RunSQL(
            sql=[
                "ALTER TABLE agents_loglines SET UNLOGGED",
                "ALTER TABLE agents_logwatch SET UNLOGGED",
                "ALTER SEQUENCE agents_loglines_id_seq SET LOGGED",
            ],
            reverse_sql=migrations.RunSQL.noop,
        ),
    ]
