"""Documents of incidents, places and webhooks."""

from typing import Any

from rest_framework import serializers

from apps.api.actors import Actor
from apps.api.money import usd
from apps.api.validation import StrictCharField, StrictSerializer
from apps.drills.models import Drill
from apps.incidents import selectors
from apps.incidents.destinations import URL_CHARS_MAX
from apps.incidents.models import (
    DeliveryState,
    Incident,
    IncidentDeployment,
    Webhook,
    WebhookDelivery,
)
from controlplane.failover import CAUSES, INCIDENT_STATES, PLACE_KINDS

HEALTHS = ("failing", "unknown", "returning", "sound")
STATES = ("healthy", "suspect", "ejected", "probation", "unknown")


class IncidentDeploymentSerializer(serializers.Serializer[Any]):
    deployment = serializers.CharField()
    usd_per_h_before = serializers.SerializerMethodField(help_text="by the plan before it")
    usd_per_h = serializers.SerializerMethodField(help_text="by the plan whose moves were noted last")

    def get_usd_per_h_before(self, row: IncidentDeployment) -> str:
        return usd(row.micro_usd_per_h_before)

    def get_usd_per_h(self, row: IncidentDeployment) -> str:
        return usd(row.micro_usd_per_h)


class IncidentDrillSerializer(serializers.Serializer[Drill]):
    id = serializers.UUIDField()
    title = serializers.CharField(source="__str__")


class IncidentSerializer(serializers.Serializer[Incident]):
    id = serializers.UUIDField()
    kind = serializers.ChoiceField(choices=PLACE_KINDS)
    name = serializers.SerializerMethodField(help_text="the place; of replicas their cluster/pool")
    title = serializers.SerializerMethodField()
    state = serializers.ChoiceField(choices=INCIDENT_STATES)
    severity = serializers.ChoiceField(choices=selectors.SEVERITIES)
    cause = serializers.ChoiceField(choices=CAUSES)
    evidence = serializers.CharField(help_text="what observers said when it was last looked at")
    opened_at = serializers.DateTimeField()
    since = serializers.DateTimeField(help_text="of this state")
    resolved_at = serializers.DateTimeField(allow_null=True)
    last_heard_at = serializers.DateTimeField(
        allow_null=True, help_text="the last sign of life before it; null where there is none"
    )
    evidence_at = serializers.DateTimeField(help_text="when what observers saw was enough")
    detected_after_s = serializers.FloatField(
        allow_null=True, help_text="from the last sign of life until then; null where there was none"
    )
    parent_id = serializers.UUIDField(allow_null=True, help_text="the incident that tells of it")
    drill = IncidentDrillSerializer(
        allow_null=True, help_text="the drill that has brought it about; null where none has"
    )
    folded = serializers.SerializerMethodField(help_text="ids of incidents that this one tells of")
    members = serializers.SerializerMethodField(help_text="all that failed in it")
    deployments = serializers.SerializerMethodField(
        help_text="those that it touched, as far as you may know them"
    )
    other_deployments = serializers.SerializerMethodField(help_text="how many more, of other projects")
    extra_usd = serializers.SerializerMethodField(help_text="what those deployments have cost more by now")

    def _own(self, row: Incident) -> list[IncidentDeployment]:
        actor: Actor = self.context["actor"]
        project_id = selectors.own_project(actor)
        return [one for one in row.deployments.all() if project_id is None or one.project_id == project_id]

    def get_name(self, row: Incident) -> str:
        return row.name.rpartition("/")[0] if row.kind == "replica" else row.name

    def get_title(self, row: Incident) -> str:
        return selectors.title(row, self._own(row))

    def get_folded(self, row: Incident) -> list[str]:
        return sorted(str(one.pk) for one in row.folded.all())

    def get_members(self, row: Incident) -> list[str]:
        return selectors.members(row)

    def get_deployments(self, row: Incident) -> list[dict[str, str]]:
        rows = sorted(self._own(row), key=lambda one: one.deployment)
        return IncidentDeploymentSerializer(rows, many=True).data  # type: ignore[return-value]

    def get_other_deployments(self, row: Incident) -> int:
        return len(row.deployments.all()) - len(self._own(row))

    def get_extra_usd(self, row: Incident) -> str:
        return usd(selectors.extra_micro_usd(row, self._own(row)))


class IncidentEntrySerializer(serializers.Serializer[Any]):
    event_id = serializers.IntegerField()
    at = serializers.DateTimeField()
    severity = serializers.CharField()
    reason = serializers.CharField()
    message = serializers.CharField()


class IncidentMoveSerializer(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    plan_generation = serializers.IntegerField()
    deployment = serializers.CharField()
    from_pool = serializers.CharField(help_text="cluster/pool; empty: they start")
    to_pool = serializers.CharField(help_text="cluster/pool; empty: they stop")
    replicas = serializers.IntegerField()


class IncidentDetailSerializer(IncidentSerializer):
    entries = serializers.SerializerMethodField(help_text="the time line, in its order")
    moves = serializers.SerializerMethodField(
        help_text="what plans moved meanwhile, of deployments that it touched"
    )

    def get_entries(self, row: Incident) -> list[dict[str, Any]]:
        found = selectors.entries(actor=self.context["actor"], incident=row)
        return IncidentEntrySerializer(found, many=True).data  # type: ignore[return-value]

    def get_moves(self, row: Incident) -> list[dict[str, Any]]:
        found = selectors.moves(actor=self.context["actor"], incident=row)
        return IncidentMoveSerializer(found, many=True).data  # type: ignore[return-value]


class IncidentRecordSerializer(serializers.Serializer[Any]):
    incident_id = serializers.UUIDField()
    created_at = serializers.DateTimeField()
    markdown = serializers.CharField()


class IncidentFilters(serializers.Serializer[Any]):
    open = serializers.BooleanField(required=False, help_text="only those that are not resolved, or are")
    kind = serializers.ChoiceField(choices=PLACE_KINDS, required=False)
    severity = serializers.ChoiceField(choices=selectors.SEVERITIES, required=False)


class WordSerializer(serializers.Serializer[Any]):
    observer = serializers.CharField(help_text="the cluster whose gateways say so")
    state = serializers.ChoiceField(choices=STATES)
    has_lost = serializers.BooleanField()
    age_s = serializers.FloatField(help_text="since its agent was last heard")
    cause = serializers.CharField()


class PlaceSerializer(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(choices=PLACE_KINDS)
    name = serializers.CharField()
    within = serializers.CharField(allow_null=True, help_text="what it is a part of")
    state = serializers.ChoiceField(choices=STATES)
    health = serializers.ChoiceField(choices=HEALTHS)
    cause = serializers.ChoiceField(choices=CAUSES, allow_null=True)
    lost_to = serializers.IntegerField()
    observers = serializers.IntegerField()
    evidence = serializers.CharField()
    incident_id = serializers.UUIDField(allow_null=True)
    says = WordSerializer(many=True)


class PlaceFilters(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(choices=PLACE_KINDS, required=False)


class WebhookCreateSerializer(StrictSerializer):
    url = StrictCharField(
        max_length=URL_CHARS_MAX, help_text="https, at a domain that MERIDIAN_WEBHOOK_DOMAINS names"
    )


class WebhookSerializer(serializers.Serializer[Webhook]):
    id = serializers.UUIDField()
    url = serializers.CharField()
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()


class WebhookCreatedSerializer(WebhookSerializer):
    secret = serializers.CharField(
        allow_null=True, help_text="signs its messages; shown once, and not when the answer is repeated"
    )
    note = serializers.CharField(allow_null=True, help_text="why there is no secret in a repeated answer")


class DeliverySerializer(serializers.Serializer[WebhookDelivery]):
    id = serializers.UUIDField(help_text="the header webhook-id, the same at each attempt")
    type = serializers.CharField()
    state = serializers.ChoiceField(choices=DeliveryState.choices)
    attempts = serializers.IntegerField()
    answer = serializers.CharField(help_text="of the last attempt: a status, or what went wrong")
    created_at = serializers.DateTimeField()
    next_at = serializers.DateTimeField()
    ended_at = serializers.DateTimeField(allow_null=True)
