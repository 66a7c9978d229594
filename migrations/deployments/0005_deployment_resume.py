# ruff: noqa: N999, RUF012

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("deployments", "0004_revision_adapters"),
    ]

    operations = [
        migrations.AddField(
            model_name="deployment",
            name="resume",
            field=models.BooleanField(db_default=True, default=True),
        ),
    ]
