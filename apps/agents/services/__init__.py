"""Writing what concerns agents: enrolment, what they report, the tables they are sent."""

from apps.agents.services.agent_enrol import agent_enrol
from apps.agents.services.agent_forget import agent_forget, replicas_end
from apps.agents.services.agents_reconcile import agents_reconcile, tables_reconcile
from apps.agents.services.enrolment_token_create import enrolment_token_create
from apps.agents.services.logs_accept import logs_accept
from apps.agents.services.logs_watch import LogReading, logs_forget, logs_watch
from apps.agents.services.plane_epoch_raise import plane_epoch_raise
from apps.agents.services.plane_restored import plane_behind_notice, plane_restored_settle
from apps.agents.services.seats_watch import SeatWatch
from apps.agents.services.signing_key import signing_key_announce, signing_key_retire
from apps.agents.services.tables_compile import (
    deployments_tables_compile,
    keysets_compile,
    organization_tables_compile,
    tables_compile,
)

__all__ = [
    "LogReading",
    "SeatWatch",
    "agent_enrol",
    "agent_forget",
    "agents_reconcile",
    "deployments_tables_compile",
    "enrolment_token_create",
    "keysets_compile",
    "logs_accept",
    "logs_forget",
    "logs_watch",
    "organization_tables_compile",
    "plane_behind_notice",
    "plane_epoch_raise",
    "plane_restored_settle",
    "replicas_end",
    "signing_key_announce",
    "signing_key_retire",
    "tables_compile",
    "tables_reconcile",
]
