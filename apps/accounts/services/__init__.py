"""Writing organizations, projects, members and API keys."""

from apps.accounts.services.api_key_touch import api_key_touch

__all__ = ["api_key_touch"]
