"""A heartbeat rewrites its row in place: PostgreSQL can do so without touching an index while the page has room."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("agents", "0001_initial")]

    operations = [
        migrations.RunSQL(
            sql="""
            ALTER TABLE agents_agentsession SET (fillfactor = 50);
            ALTER TABLE agents_replica SET (fillfactor = 70);
            """,
            reverse_sql="""
            ALTER TABLE agents_agentsession RESET (fillfactor);
            ALTER TABLE agents_replica RESET (fillfactor);
            """,
        )
    ]
