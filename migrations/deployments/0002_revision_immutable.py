"""A revision is never changed once written."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("deployments", "0001_initial"), ("api", "0002_audit_append_only")]

    operations = [
        migrations.RunSQL(
            sql="""
            CREATE TRIGGER revision_immutable BEFORE UPDATE OR DELETE ON deployments_revision
                FOR EACH ROW EXECUTE FUNCTION meridian_refuse_change();
            """,
            reverse_sql="DROP TRIGGER revision_immutable ON deployments_revision;",
        )
    ]
