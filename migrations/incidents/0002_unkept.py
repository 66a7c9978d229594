# ruff: noqa: N999, RUF012

from django.db import migrations, models

_CAUSES = ("lost", "unheard", "cut_off", "fenced", "no_gateway", "unkept", "replicas")


class Migration(migrations.Migration):
    dependencies = [
        ("incidents", "0001_initial"),
    ]

    operations = [
        migrations.RemoveConstraint(model_name="incident", name="incident_cause_known"),
        migrations.AlterField(
            model_name="incident",
            name="cause",
            field=models.CharField(choices=[(cause, cause) for cause in _CAUSES], max_length=16),
        ),
        migrations.AddConstraint(
            model_name="incident",
            constraint=models.CheckConstraint(
                condition=models.Q(cause__in=_CAUSES), name="incident_cause_known"
            ),
        ),
    ]
