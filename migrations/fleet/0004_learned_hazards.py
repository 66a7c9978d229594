from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('fleet', '0003_network_prices'),
    ]

    operations = [
        migrations.AddField(
            model_name='gpupool',
            name='hazard_learned_per_h',
            field=models.FloatField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='gpupool',
            name='obtainability_learned',
            field=models.FloatField(blank=True, null=True),
        ),
        migrations.AddConstraint(
            model_name='gpupool',
            constraint=models.CheckConstraint(condition=models.Q(('hazard_learned_per_h', None), ('hazard_learned_per_h__gte', 0), _connector='OR'), name='pool_hazard_learned_not_negative'),
        ),
        migrations.AddConstraint(
            model_name='gpupool',
            constraint=models.CheckConstraint(condition=models.Q(('obtainability_learned', None), models.Q(('obtainability_learned__gt', 0), ('obtainability_learned__lte', 1)), _connector='OR'), name='pool_obtainability_learned_is_a_share'),
        ),
    ]
