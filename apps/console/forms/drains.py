"""The form of a drain."""

from collections.abc import Mapping
from typing import ClassVar

from django import forms

from apps.console.forms.base import DocumentForm
from apps.drains.models import DrainKind


class DrainPlaceForm(DocumentForm):
    """What is to be emptied, as the address says."""

    kind = forms.ChoiceField(choices=DrainKind.choices)
    name = forms.CharField(max_length=127)


class DrainForm(DocumentForm):
    """When a place is to be empty, and why."""

    pointers: ClassVar[Mapping[str, str]] = {"/starts_at": "starts_at", "/ends_at": "ends_at"}

    starts_at = forms.DateTimeField(
        label="Empty from (UTC)",
        required=False,
        help_text="The move begins so early that all has gone by then. Empty: now.",
    )
    ends_at = forms.DateTimeField(
        label="Until (UTC)",
        required=False,
        help_text="It opens again then by itself. Empty: when somebody says so.",
    )
    reason = forms.CharField(required=False, max_length=255, help_text="Why, for those who see it.")
    accept_risk = forms.BooleanField(
        label="Go on though a promise breaks", required=False, help_text="Your name is recorded with it."
    )
