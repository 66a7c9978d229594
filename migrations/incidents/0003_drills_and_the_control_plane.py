# ruff: noqa: N999, RUF012

import django.db.models.deletion
from django.db import migrations, models

_KINDS = ("replica", "pool", "cluster", "region", "provider", "control_plane")
_CAUSES = ("lost", "unheard", "cut_off", "fenced", "no_gateway", "unkept", "away", "replicas")


class Migration(migrations.Migration):
    dependencies = [
        ("drills", "0001_initial"),
        ("incidents", "0002_unkept"),
    ]

    operations = [
        migrations.AddField(
            model_name="incident",
            name="drill",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to="drills.drill",
            ),
        ),
        migrations.RemoveConstraint(model_name="incident", name="incident_cause_known"),
        migrations.RemoveConstraint(model_name="incident", name="incident_kind_known"),
        migrations.AlterField(
            model_name="incident",
            name="cause",
            field=models.CharField(choices=[(cause, cause) for cause in _CAUSES], max_length=16),
        ),
        migrations.AlterField(
            model_name="incident",
            name="kind",
            field=models.CharField(choices=[(kind, kind) for kind in _KINDS], max_length=16),
        ),
        migrations.AddConstraint(
            model_name="incident",
            constraint=models.CheckConstraint(condition=models.Q(kind__in=_KINDS), name="incident_kind_known"),
        ),
        migrations.AddConstraint(
            model_name="incident",
            constraint=models.CheckConstraint(
                condition=models.Q(cause__in=_CAUSES), name="incident_cause_known"
            ),
        ),
    ]
