"""What every app's services use: one transaction, the audit trail, idempotent answers."""

from apps.api.services.answers_purge import answers_purge
from apps.api.services.audit_record import audit_record
from apps.api.services.idempotent_answer import answer_claim, answer_store
from apps.api.services.one_transaction import one_transaction

__all__ = ["answer_claim", "answer_store", "answers_purge", "audit_record", "one_transaction"]
