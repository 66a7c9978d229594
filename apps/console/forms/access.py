"""The form for a new API key."""

from collections.abc import Mapping
from typing import ClassVar

from django import forms

from apps.accounts.models import Scope
from apps.console.forms.base import DocumentForm

_EXPIRIES = (
    ("", "never"),
    ("1", "in a day"),
    ("30", "in 30 days"),
    ("90", "in 90 days"),
    ("365", "in a year"),
)


class KeyForm(DocumentForm):
    """Name, scopes and life of a key."""

    pointers: ClassVar[Mapping[str, str]] = {
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
