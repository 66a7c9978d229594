# ruff: noqa: N999, RUF012

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("telemetry", "0001_initial"),
    ]

    operations = [
        migrations.AddField(
            model_name="usagerecord",
            name="audio_input_s",
            field=models.FloatField(db_default=0.0, default=0.0),
        ),
        migrations.AddField(
            model_name="usagerecord",
            name="input_characters",
            field=models.BigIntegerField(db_default=0, default=0),
        ),
    ]
