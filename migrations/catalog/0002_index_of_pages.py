# ruff: noqa: N999, RUF012

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0001_initial"),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name="engineimage",
            name="catalog_eng_engine_d787bd_idx",
        ),
        migrations.RemoveIndex(
            model_name="modelversion",
            name="catalog_mod_model_i_6d6efd_idx",
        ),
        migrations.AddIndex(
            model_name="engineimage",
            index=models.Index(fields=["engine", "created_at", "id"], name="catalog_eng_engine_081bd3_idx"),
        ),
        migrations.AddIndex(
            model_name="modelversion",
            index=models.Index(fields=["model", "created_at", "id"], name="catalog_mod_model_i_765c1b_idx"),
        ),
    ]
