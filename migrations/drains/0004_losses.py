from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('drains', '0003_nodes'),
    ]

    operations = [
        migrations.AddField(
            model_name='drain',
            name='lost_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
    ]
