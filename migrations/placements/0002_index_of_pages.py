# ruff: noqa: N999, RUF012

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0001_initial"),
        ("placements", "0001_initial"),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name="placementplan",
            name="placements__organiz_add5af_idx",
        ),
        migrations.AddIndex(
            model_name="placementplan",
            index=models.Index(
                fields=["organization", "created_at", "id"], name="placements__organiz_5795d8_idx"
            ),
        ),
    ]
