# ruff: noqa: N999, RUF012

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('fleet', '0003_network_prices'),
        ('telemetry', '0002_usage_of_speech'),
    ]

    operations = [
        migrations.CreateModel(
            name='TrafficStep',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('deployment_id', models.UUIDField()),
                ('at', models.DateTimeField()),
                ('requests', models.BigIntegerField()),
                ('output_tokens', models.BigIntegerField()),
                ('region', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='fleet.region')),
            ],
            options={
                'indexes': [models.Index(fields=['at'], name='telemetry_t_at_08e33a_idx')],
                'constraints': [models.UniqueConstraint(fields=('deployment_id', 'region', 'at'), name='traffic_step_once')],
            },
        ),
    ]
