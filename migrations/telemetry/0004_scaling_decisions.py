# ruff: noqa: N999, RUF012

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('telemetry', '0003_traffic_steps'),
    ]

    operations = [
        migrations.CreateModel(
            name='ScalingDecision',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('cluster_id', models.UUIDField()),
                ('deployment_id', models.UUIDField()),
                ('revision_id', models.UUIDField()),
                ('decided_at', models.DateTimeField()),
                ('policy', models.CharField(max_length=16)),
                ('replicas', models.PositiveIntegerField()),
                ('ready', models.PositiveIntegerField()),
                ('at_hand', models.FloatField(null=True)),
                ('reasons', models.JSONField(default=list)),
            ],
            options={
                'indexes': [models.Index(fields=['deployment_id', '-decided_at'], name='telemetry_s_deploym_5d31f2_idx'), models.Index(fields=['decided_at'], name='telemetry_s_decided_b6df17_idx')],
                'constraints': [models.UniqueConstraint(fields=('cluster_id', 'revision_id', 'decided_at'), name='scaling_decision_once')],
            },
        ),
    ]
