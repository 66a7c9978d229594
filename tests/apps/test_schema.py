"""What the database itself guarantees."""

import pytest
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction

from apps.api.models import AuditEvent

pytestmark = pytest.mark.django_db


def test_models_and_migrations_agree() -> None:
    """A change of a model cannot land without its migration."""
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)


@pytest.mark.parametrize("change", ["UPDATE api_auditevent SET actor = 'x'", "DELETE FROM api_auditevent"])
def test_audit_trail_refuses_changes(change: str) -> None:
    """Nobody who connects can change or remove what the audit trail says."""
    AuditEvent.objects.create(actor="a", action="b", subject_type="c", subject_id="d", subject_name="e")
    with (
        pytest.raises(DatabaseError, match="never changed"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(change)
    assert AuditEvent.objects.get().actor == "a"


def test_audit_trail_refuses_to_be_emptied() -> None:
    """TRUNCATE is refused as well."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE api_auditevent ENABLE TRIGGER audit_no_truncate")
    with (
        pytest.raises(DatabaseError, match="never changed"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute("TRUNCATE api_auditevent CASCADE")
