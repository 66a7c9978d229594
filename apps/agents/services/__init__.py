"""Writing what concerns agents: enrolment, what they report, the tables they are sent."""

from apps.agents.services.agent_enrol import agent_enrol
from apps.agents.services.enrolment_token_create import enrolment_token_create
from apps.agents.services.tables_compile import keysets_compile, tables_compile

__all__ = ["agent_enrol", "enrolment_token_create", "keysets_compile", "tables_compile"]
