# ruff: noqa: N999, RUF012

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0002_key_and_project_limits'),
        ('fleet', '0001_initial'),
    ]

    operations = [
        migrations.AddField(
            model_name='cluster',
            name='ended_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='cluster',
            name='retired_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddConstraint(
            model_name='cluster',
            constraint=models.CheckConstraint(condition=models.Q(('retired_at', None), ('schedulable', False), _connector='OR'), name='cluster_retired_is_unschedulable'),
        ),
        migrations.AddConstraint(
            model_name='cluster',
            constraint=models.CheckConstraint(condition=models.Q(('ended_at', None), ('retired_at__isnull', False), _connector='OR'), name='cluster_ended_only_if_retired'),
        ),
    ]
