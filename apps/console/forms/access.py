"""Forms for API keys, and for what they and their project may use."""

from collections.abc import Mapping
from typing import Any, ClassVar

from django import forms

from apps.accounts.models import Priority, Scope
from apps.console.forms.base import DocumentForm

_EXPIRIES = (
    ("", "never"),
    ("1", "in a day"),
    ("30", "in 30 days"),
    ("90", "in 90 days"),
    ("365", "in a year"),
)


#: What a signed 32-bit column holds.
_LIMIT_MAX = 2**31 - 1


def _limit(label: str) -> forms.IntegerField:
    return forms.IntegerField(
        label=label, required=False, min_value=1, max_value=_LIMIT_MAX, help_text="Empty: no limit."
    )


class LimitsForm(DocumentForm):
    """What a project's keys may use together; each gateway process holds it for itself."""

    pointers: ClassVar[Mapping[str, str]] = {
        "/requests_per_minute": "requests_per_minute",
        "/tokens_per_minute": "tokens_per_minute",
        "/concurrent_requests": "concurrent_requests",
    }

    requests_per_minute = _limit("Requests a minute")
    tokens_per_minute = _limit("Tokens a minute")
    concurrent_requests = _limit("Requests at once")

    def changes(self) -> dict[str, Any]:
        """As the service takes them: ``None`` = no limit."""
        return {name: self.cleaned_data[name] for name in LimitsForm.base_fields}


class KeyLimitsForm(LimitsForm):
    """What one key may use."""

    pointers: ClassVar[Mapping[str, str]] = {**LimitsForm.pointers, "/max_priority": "max_priority"}

    max_priority = forms.ChoiceField(
        label="Highest priority",
        choices=Priority.choices,
        initial=Priority.NORMAL,
        help_text="What its requests may ask for at most.",
    )

    def changes(self) -> dict[str, Any]:
        return {**super().changes(), "max_priority": self.cleaned_data["max_priority"]}


class KeyForm(KeyLimitsForm):
    """Name, scopes, life and limits of a new key."""

    pointers: ClassVar[Mapping[str, str]] = {
        **KeyLimitsForm.pointers,
        "/name": "name",
        "/scopes": "scopes",
        "/expires_at": "expires_in_days",
    }

    name = forms.CharField(max_length=63, help_text="Says who or what uses it.")
    expires_in_days = forms.TypedChoiceField(
        label="Expires", choices=_EXPIRIES, coerce=int, empty_value=None, required=False
    )
    scopes = forms.MultipleChoiceField(
        label="May",
        choices=[
            (Scope.INFERENCE, "send requests to models (inference)"),
            (Scope.READ, "read"),
            (Scope.DEPLOY, "deploy, and read"),
            (Scope.OPERATE, "operate capacity and keys, and all the former"),
        ],
        widget=forms.CheckboxSelectMultiple,
        initial=[Scope.INFERENCE],
    )
