"""A revision pins the LoRA adapters that its replicas can serve."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("deployments", "0003_index_of_pages")]

    operations = [
        migrations.AddField(
            model_name="revision", name="adapters", field=models.JSONField(default=list)
        )
    ]
