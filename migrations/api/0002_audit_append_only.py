"""The audit trail is append-only for everyone who connects, whatever the code does."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("api", "0001_initial")]

    operations = [
        migrations.RunSQL(
            sql="""
            CREATE FUNCTION meridian_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                RAISE EXCEPTION '% of % refused: its rows are never changed', TG_OP, TG_TABLE_NAME
                    USING ERRCODE = 'restrict_violation';
            END $$;
            CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON api_auditevent
                FOR EACH ROW EXECUTE FUNCTION meridian_refuse_change();
            CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON api_auditevent
                FOR EACH STATEMENT EXECUTE FUNCTION meridian_refuse_change();
            """,
            reverse_sql="""
            DROP TRIGGER audit_append_only ON api_auditevent;
            DROP TRIGGER audit_no_truncate ON api_auditevent;
            DROP FUNCTION meridian_refuse_change();
            """,
        )
    ]
