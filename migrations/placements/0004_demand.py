# ruff: noqa: N999, RUF012

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('deployments', '0006_providers_and_demand'),
        ('fleet', '0003_network_prices'),
        ('placements', '0003_planned_and_standby'),
    ]

    operations = [
        migrations.CreateModel(
            name='DeploymentDemand',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('requests_per_s_p50', models.FloatField()),
                ('requests_per_s_p95', models.FloatField()),
                ('tokens_per_s_p50', models.FloatField()),
                ('tokens_per_s_p95', models.FloatField()),
                ('known_since', models.DateTimeField()),
                ('updated_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('deployment', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='demands', to='deployments.deployment')),
                ('origin', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='fleet.region')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('deployment', 'origin'), name='demand_once_per_origin'), models.CheckConstraint(condition=models.Q(('requests_per_s_p50__gte', 0), ('requests_per_s_p95__gte', models.F('requests_per_s_p50')), ('tokens_per_s_p50__gte', 0), ('tokens_per_s_p95__gte', models.F('tokens_per_s_p50'))), name='demand_not_negative_and_in_order')],
            },
        ),
    ]
