"""Documents of drains."""

from typing import Any

from rest_framework import serializers

from apps.api.actors import Actor
from apps.api.refusals import RefusalSerializer
from apps.api.validation import (
    PatternField,
    StrictBooleanField,
    StrictCharField,
    StrictChoiceField,
    StrictDateTimeField,
    StrictSerializer,
)
from apps.drains.models import DrainKind
from apps.drains.selectors import DeploymentProgress
from apps.drains.services.drain_preview import shown_to
from controlplane.failover import DRAIN_STATES


class DrainPlaceSerializer(StrictSerializer):
    """What is to be emptied."""

    kind = StrictChoiceField(choices=DrainKind.choices)
    name = PatternField(
        pattern=r"^[a-z0-9][a-z0-9-]{0,62}(/[a-z0-9][a-z0-9.-]{0,62})?$",
        form="A region's or cluster's name is wanted, or cluster/pool, or cluster/node.",
        max_length=127,
        help_text="of the region or cluster, or cluster/pool, or cluster/node",
    )


class DrainCreateSerializer(DrainPlaceSerializer):
    reason = StrictCharField(max_length=255, required=False, allow_blank=True, default="")
    accept_risk = StrictBooleanField(
        required=False, default=False, help_text="go on though a promise would break; who said so is recorded"
    )
    starts_at = StrictDateTimeField(
        required=False, allow_null=True, default=None, help_text="all shall have moved by then; null: at once"
    )
    ends_at = StrictDateTimeField(
        required=False, allow_null=True, default=None, help_text="it opens again then by itself"
    )


class DeploymentProgressSerializer(serializers.Serializer[Any]):
    deployment = serializers.SerializerMethodField(
        allow_null=True, help_text="null to a key of another project"
    )
    here = serializers.IntegerField(help_text="replicas that are still there")
    wanted = serializers.IntegerField(help_text="replicas that must be ready elsewhere before those may go")
    ready = serializers.IntegerField(help_text="those of them that are")

    def get_deployment(self, row: DeploymentProgress) -> str | None:
        actor: Actor = self.context["actor"]
        return row.deployment if actor.kind != "api_key" or row.project_id == actor.project_id else None


class ProgressSerializer(serializers.Serializer[Any]):
    replicas = serializers.IntegerField(help_text="that were there when the move began")
    here = serializers.IntegerField()
    gone = serializers.IntegerField()
    deployments = DeploymentProgressSerializer(many=True)
    eta_s = serializers.FloatField(allow_null=True, help_text="null: not known, or later than was expected")


class DrainSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    kind = serializers.ChoiceField(choices=DrainKind.choices)
    name = serializers.CharField()
    state = serializers.ChoiceField(choices=DRAIN_STATES)
    reason = serializers.CharField()
    deadline_at = serializers.DateTimeField(
        allow_null=True, help_text="when its provider takes it back, by a notice; null: no notice orders it"
    )
    lost_at = serializers.DateTimeField(
        allow_null=True, help_text="since when it is lost, by an incident; null: no incident orders it"
    )
    starts_at = serializers.DateTimeField(allow_null=True)
    ends_at = serializers.DateTimeField(allow_null=True)
    begins_at = serializers.DateTimeField(allow_null=True, help_text="when the move of a window begins")
    expected_s = serializers.FloatField(
        allow_null=True, help_text="how long the move takes, by cold starts learned or stated"
    )
    accept_risk = serializers.BooleanField()
    accepted_by = serializers.CharField()
    shortfalls = serializers.SerializerMethodField(
        help_text="what is short without it, for whom, and the remedy"
    )
    progress = ProgressSerializer()
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()
    moving_since = serializers.DateTimeField(allow_null=True)
    drained_at = serializers.DateTimeField(allow_null=True)
    ended_at = serializers.DateTimeField(allow_null=True)

    def get_shortfalls(self, row: Any) -> list[dict[str, str]]:
        found = shown_to(self.context["actor"], row.shortfalls)
        return [RefusalSerializer(refusal).data for refusal in found]


class KeptSerializer(serializers.Serializer[Any]):
    deployment = serializers.CharField(allow_null=True, help_text="null to a key of another project")
    jurisdiction = serializers.CharField()
    replicas_now = serializers.IntegerField()
    replicas_after = serializers.IntegerField()


class DrainPreviewSerializer(serializers.Serializer[Any]):
    """What a drain would do. Nothing of it is stored."""

    replicas = serializers.IntegerField(help_text="that would have to leave")
    expected_s = serializers.FloatField(allow_null=True)
    kept = KeptSerializer(many=True)
    shortfalls = RefusalSerializer(many=True)


class DrainFilters(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(choices=DrainKind.choices, required=False)
    name = serializers.CharField(required=False)
    state = serializers.ChoiceField(choices=DRAIN_STATES, required=False)
    ended = serializers.BooleanField(required=False, help_text="only those that have, or have not")
