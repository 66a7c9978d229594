# ruff: noqa: N999, RUF012

from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0001_initial"),
        ("deployments", "0002_revision_immutable"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name="deployment",
            name="deployments_project_7b1f10_idx",
        ),
        migrations.AddIndex(
            model_name="deployment",
            index=models.Index(fields=["project", "created_at", "id"], name="deployments_project_3179f9_idx"),
        ),
    ]
