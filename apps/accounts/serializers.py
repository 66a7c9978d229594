"""Documents of organizations, projects, members, people and API keys."""

from typing import Any

from rest_framework import serializers

from apps.accounts.models import Priority, Role, Scope
from apps.api.validation import (
    NameField,
    StrictCharField,
    StrictChoiceField,
    StrictDateTimeField,
    StrictIntegerField,
    StrictSerializer,
    UsdField,
)

#: What a signed 32-bit column holds.
_LIMIT_MAX = 2**31 - 1
_BUDGET = "what its deployments may cost an hour, reserved capacity at its reservation's price"


class LimitsSerializer(StrictSerializer):
    """Limits that may be left out, given, or taken away with null."""

    requests_per_minute = StrictIntegerField(
        min_value=1, max_value=_LIMIT_MAX, required=False, allow_null=True, help_text="null = no limit"
    )
    tokens_per_minute = StrictIntegerField(
        min_value=1, max_value=_LIMIT_MAX, required=False, allow_null=True, help_text="null = no limit"
    )
    concurrent_requests = StrictIntegerField(
        min_value=1, max_value=_LIMIT_MAX, required=False, allow_null=True, help_text="null = no limit"
    )


class NamedCreateSerializer(StrictSerializer):
    """All that an organization or a project needs to exist."""

    name = NameField()


class OrganizationSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    created_at = serializers.DateTimeField()


class ProjectSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    organization = serializers.CharField(source="organization.name")
    name = serializers.CharField()
    created_at = serializers.DateTimeField()
    requests_per_minute = serializers.IntegerField(allow_null=True)
    tokens_per_minute = serializers.IntegerField(allow_null=True)
    concurrent_requests = serializers.IntegerField(allow_null=True)
    budget_usd_per_h = UsdField(source="budget_micro_usd_per_h", allow_null=True, help_text=_BUDGET)


class ProjectPatchSerializer(LimitsSerializer):
    """What can change of a project."""

    budget_usd_per_h = UsdField(
        source="budget_micro_usd_per_h",
        required=False,
        allow_null=True,
        help_text=f"{_BUDGET}; null = no bound",
    )


class MemberCreateSerializer(StrictSerializer):
    username = StrictCharField(max_length=150)
    role = StrictChoiceField(choices=Role.choices)


class MemberPatchSerializer(StrictSerializer):
    role = StrictChoiceField(choices=Role.choices)


class MemberSerializer(serializers.Serializer[Any]):
    username = serializers.CharField(source="user.username")
    role = serializers.ChoiceField(choices=Role.choices)
    created_at = serializers.DateTimeField()


class UserCreateSerializer(StrictSerializer):
    username = StrictCharField(max_length=150, help_text="letters, digits and @ . + - _")
    email = StrictCharField(max_length=254, required=False, default="", allow_blank=True)

    def validate_username(self, value: str) -> str:
        if not all(character.isalnum() or character in "@.+-_" for character in value):
            raise serializers.ValidationError("Only letters, digits and @ . + - _ are allowed.")
        return value


class UserCreatedSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    username = serializers.CharField()
    email = serializers.CharField()
    initial_password = serializers.CharField(allow_null=True, help_text="shown once")
    note = serializers.CharField(allow_null=True, help_text="why initial_password is null")


class ApiKeyCreateSerializer(LimitsSerializer):
    name = NameField()
    scopes = serializers.ListField(
        child=StrictChoiceField(choices=Scope.choices), min_length=1, max_length=len(Scope.values)
    )
    expires_at = StrictDateTimeField(required=False, allow_null=True, default=None)
    max_priority = StrictChoiceField(
        choices=Priority.choices,
        required=False,
        help_text="the class that its requests may ask for at most (default normal)",
    )


class ApiKeyPatchSerializer(LimitsSerializer):
    """What can change of a key."""

    max_priority = StrictChoiceField(choices=Priority.choices, required=False)


class ApiKeySerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    prefix = serializers.CharField(help_text="how the key begins; the rest is stored nowhere")
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=Scope.choices))
    created_by = serializers.CharField(source="created_by.username", default=None, allow_null=True)
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True)
    requests_per_minute = serializers.IntegerField(allow_null=True)
    tokens_per_minute = serializers.IntegerField(allow_null=True)
    concurrent_requests = serializers.IntegerField(allow_null=True)
    max_priority = serializers.ChoiceField(choices=Priority.choices)


class ApiKeyCreatedSerializer(ApiKeySerializer):
    key = serializers.CharField(allow_null=True, help_text="the key itself; shown once")
    note = serializers.CharField(allow_null=True, help_text="why key is null")


class ApiKeyFilters(serializers.Serializer[Any]):
    revoked = serializers.ChoiceField(choices=["true", "false"], required=False)


class MeSerializer(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(choices=["api_key", "user"])
    name = serializers.CharField()
    right = serializers.CharField(allow_null=True, help_text="the strongest right held")
    organization_id = serializers.UUIDField(allow_null=True)
    project_id = serializers.UUIDField(allow_null=True)
