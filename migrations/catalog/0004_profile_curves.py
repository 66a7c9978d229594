# ruff: noqa: N999, RUF012

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('catalog', '0003_modelversion_modalities'),
    ]

    operations = [
        migrations.AddField(
            model_name='performanceprofile',
            name='curve',
            field=models.JSONField(db_default=models.Value([], models.JSONField()), default=list),
        ),
        migrations.AddField(
            model_name='performanceprofile',
            name='input_tokens_mean',
            field=models.FloatField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='performanceprofile',
            name='slo_inter_token_latency_s_p95',
            field=models.FloatField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='performanceprofile',
            name='slo_ttft_s_p95',
            field=models.FloatField(blank=True, null=True),
        ),
    ]
