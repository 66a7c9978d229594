"""Writing organizations, projects, members and API keys."""

from apps.accounts.services.api_key_create import api_key_create
from apps.accounts.services.api_key_revoke import api_key_revoke
from apps.accounts.services.api_key_touch import api_key_touch
from apps.accounts.services.limits_change import api_key_change, project_change
from apps.accounts.services.member import member_add, member_change, member_remove
from apps.accounts.services.organization_create import organization_create
from apps.accounts.services.project_create import project_create
from apps.accounts.services.user_create import user_create

__all__ = [
    "api_key_change",
    "api_key_create",
    "api_key_revoke",
    "api_key_touch",
    "member_add",
    "member_change",
    "member_remove",
    "organization_create",
    "project_change",
    "project_create",
    "user_create",
]
