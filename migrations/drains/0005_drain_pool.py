import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('drains', '0004_losses'),
        ('fleet', '0004_learned_hazards'),
    ]

    operations = [
        migrations.AddField(
            model_name='drain',
            name='pool',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='fleet.gpupool'),
        ),
    ]
