# ruff: noqa: N999, RUF012

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0003_project_budget'),
        ('placements', '0005_handover'),
    ]

    operations = [
        migrations.AddField(
            model_name='placementclock',
            name='failures',
            field=models.JSONField(db_default=models.Value({}, models.JSONField()), default=dict),
        ),
        migrations.AddField(
            model_name='placementclock',
            name='full_solved_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='placementclock',
            name='gpu_micro_usd_per_h_by_pool',
            field=models.JSONField(db_default=models.Value({}, models.JSONField()), default=dict),
        ),
        migrations.AddField(
            model_name='placementclock',
            name='lower_bound_micro_usd_per_h',
            field=models.BigIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='placementplan',
            name='refused',
            field=models.PositiveIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name='placementplan',
            name='relaxed',
            field=models.PositiveIntegerField(db_default=0, default=0),
        ),
        migrations.CreateModel(
            name='SolveCount',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('event', 'Event'), ('full', 'Full')], max_length=8)),
                ('outcome', models.CharField(choices=[('adopted', 'Adopted'), ('unchanged', 'Unchanged'), ('kept', 'Kept'), ('overtaken', 'Overtaken'), ('failed', 'Failed')], max_length=16)),
                ('solves', models.BigIntegerField()),
                ('solve_s_sum', models.FloatField()),
                ('organization', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.organization')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('organization', 'kind', 'outcome'), name='solve_count_once'), models.CheckConstraint(condition=models.Q(('kind__in', ['event', 'full'])), name='solve_kind_known'), models.CheckConstraint(condition=models.Q(('outcome__in', ['adopted', 'unchanged', 'kept', 'overtaken', 'failed'])), name='solve_outcome_known')],
            },
        ),
    ]
