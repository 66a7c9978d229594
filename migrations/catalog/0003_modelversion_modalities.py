# ruff: noqa: N999, RUF012

import django.contrib.postgres.fields
from django.db import migrations, models

import apps.catalog.models


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0002_index_of_pages"),
    ]

    operations = [
        migrations.AddField(
            model_name="modelversion",
            name="modalities",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(
                    choices=[
                        ("text", "Text"),
                        ("image", "Image"),
                        ("audio", "Audio"),
                        ("video", "Video"),
                    ],
                    max_length=8,
                ),
                default=apps.catalog.models.text_alone,
                size=None,
            ),
        ),
        migrations.AddConstraint(
            model_name="modelversion",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("modalities__len__gt", 0),
                    ("modalities__contained_by", ["text", "image", "audio", "video"]),
                ),
                name="model_version_modalities_known",
            ),
        ),
    ]
