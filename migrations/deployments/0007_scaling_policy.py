# ruff: noqa: N999, RUF012

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('deployments', '0006_providers_and_demand'),
    ]

    operations = [
        migrations.AddField(
            model_name='autoscalingpolicy',
            name='policy',
            field=models.CharField(choices=[('predictive', 'Predictive'), ('kpa', 'Kpa')], db_default='predictive', default='predictive', max_length=16),
        ),
        migrations.AddConstraint(
            model_name='autoscalingpolicy',
            constraint=models.CheckConstraint(condition=models.Q(('policy__in', ['predictive', 'kpa'])), name='autoscaling_policy_known'),
        ),
    ]
