"""Reading incidents, records and webhooks: always within what an actor may see.

Operators see all incidents of their organization; a key that may only read or deploy sees those that touched a
deployment of its project. No key learns a name of another project's deployments.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.db.models import Count, Q, QuerySet
from django.utils import timezone

from apps.accounts.selectors import organization_wanted, project_wanted
from apps.api.actors import Actor
from apps.api.problems import Problem, not_found
from apps.api.rows import row_by_id
from apps.incidents.models import (
    DeliveryState,
    Incident,
    IncidentDeployment,
    IncidentEntry,
    IncidentMove,
    IncidentRecord,
    Webhook,
    WebhookDelivery,
)
from apps.incidents.record import CostFacts, EntryFacts, MoveFacts, RecordFacts
from controlplane.failover import PLACE_KINDS, Place
from workloadplane.words import counted

SEVERITIES = ("warning", "error")


def incidents(
    *,
    actor: Actor,
    open: bool | None = None,  # noqa: A002  (as the API's parameter)
    kind: str | None = None,
    severity: str | None = None,
) -> QuerySet[Incident]:
    """Those that the actor may see, with what lists show. ``open``: only those that are not resolved, or are."""
    found = Incident.objects.filter(organization_id=organization_wanted(actor))
    if not sees_all(actor):
        touched = IncidentDeployment.objects.filter(project_id=project_wanted(actor))
        found = found.filter(pk__in=touched.values("incident"))
    found = found if open is None else found.filter(resolved_at__isnull=open)
    found = found if kind is None else found.filter(kind=kind)
    found = found if severity is None else found.filter(severity=severity)
    return found.select_related("parent", "drill").prefetch_related("deployments", "folded")


def sees_all(actor: Actor) -> bool:
    """Whether all incidents of the organization are this actor's."""
    return actor.kind != "api_key" or actor.can_operate


def own_project(actor: Actor) -> UUID | None:
    """The only project whose names this actor may know; None: all."""
    return actor.project_id if actor.kind == "api_key" else None


def incident_get(*, actor: Actor, incident_id: str) -> Incident:
    """By id, or by the beginning of one that is no other's. Raises Problem ``not_found``, ``conflict``."""
    found = incidents(actor=actor)
    try:
        row = found.filter(pk=UUID(incident_id)).first()
    except ValueError:
        row = _by_prefix(found, incident_id)
    if row is None:
        raise not_found("incident", incident_id)
    return row


def _by_prefix(found: QuerySet[Incident], prefix: str) -> Incident | None:
    if len(prefix) < 6 or not set(prefix.lower()) <= set("0123456789abcdef-"):
        return None
    rows = list(found.filter(id__startswith=prefix.lower())[:2])
    if len(rows) > 1:
        raise Problem("conflict", f"several incidents begin with {prefix}; give more of the id")
    return rows[0] if rows else None


def entries(*, actor: Actor, incident: Incident) -> list[IncidentEntry]:
    """The time line as the actor may read it, in its order."""
    return _entries(incident, own_project(actor))


def moves(*, actor: Actor, incident: Incident) -> list[IncidentMove]:
    """What moved, of deployments whose names the actor may know."""
    return _moves(incident, own_project(actor))


def _entries(incident: Incident, project_id: UUID | None) -> list[IncidentEntry]:
    found = IncidentEntry.objects.filter(incident=incident)
    if project_id is not None:
        found = found.filter(Q(project_id=project_id) | Q(project_id=None))
    return list(found.order_by("at", "event_id"))


def _moves(incident: Incident, project_id: UUID | None) -> list[IncidentMove]:
    found = IncidentMove.objects.filter(incident=incident)
    found = found if project_id is None else found.filter(project_id=project_id)
    return list(found.order_by("plan_generation", "deployment", "pk"))


def record_find(*, actor: Actor, incident: Incident) -> IncidentRecord | None:
    """What was written for whoever asks; None before it is resolved."""
    project_id = own_project(actor)
    records = IncidentRecord.objects.filter(incident=incident)
    own = records.filter(project=None) if project_id is None else records.filter(project_id=project_id)
    return own.first()


def record_get(*, actor: Actor, incident: Incident) -> IncidentRecord:
    """The same. Raises Problem ``not_found``."""
    found = record_find(actor=actor, incident=incident)
    if found is None:
        raise not_found("record of incident", f"{incident.pk}: it is written once the incident is resolved")
    return found


def record_facts(*, incident: Incident, project_id: UUID | None) -> RecordFacts:
    """All that a record tells, with the names of one project alone where one is given."""
    touched = list(IncidentDeployment.objects.filter(incident=incident).order_by("deployment", "pk"))
    own = [row for row in touched if project_id is None or row.project_id == project_id]
    return RecordFacts(
        title=title(incident, own),
        severity=incident.severity,
        cause=incident.cause,
        evidence=incident.evidence,
        last_heard_at=incident.last_heard_at,
        evidence_at=incident.evidence_at,
        opened_at=incident.opened_at,
        resolved_at=incident.resolved_at,
        parent=str(incident.parent) if incident.parent else None,
        drill=str(incident.drill) if incident.drill else None,
        members=members(incident),
        entries=[
            EntryFacts(at=row.at, severity=row.severity, reason=row.reason, message=row.message)
            for row in _entries(incident, project_id)
        ],
        moves=[
            MoveFacts(
                at=row.at,
                plan_generation=row.plan_generation,
                deployment=row.deployment,
                from_pool=row.from_pool,
                to_pool=row.to_pool,
                replicas=row.replicas,
            )
            for row in _moves(incident, project_id)
        ],
        costs=[
            CostFacts(
                deployment=row.deployment,
                micro_usd_per_h_before=row.micro_usd_per_h_before,
                micro_usd_per_h=row.micro_usd_per_h,
                extra_micro_usd=row.extra_micro_usd,
            )
            for row in own
        ],
        others=len(touched) - len(own),
    )


def title(incident: Incident, own: Sequence[IncidentDeployment]) -> str:
    """The place as a reader knows it, who may know these touched deployments by name."""
    if incident.kind != "replica":
        return str(incident)
    name = own[0].deployment if own else "a deployment of another project"
    return f"replicas of {name} in {incident.name.rpartition('/')[0]}"


def members(incident: Incident) -> list[str]:
    """The places that failed, the largest first; of replicas only how many deployments'."""
    order = PLACE_KINDS[::-1]
    named = sorted(
        (order.index(kind), name) for kind, name in incident.members if kind in order and kind != "replica"
    )
    told = [str(Place(order[index], name)) for index, name in named]
    replicas = sum(kind == "replica" for kind, _ in incident.members)
    return [*told, f"replicas of {counted(replicas, 'deployment')}"] if replicas else told


def extra_micro_usd(
    incident: Incident, rows: Sequence[IncidentDeployment], *, now: datetime | None = None
) -> int:
    """What it has cost more until now, of these deployments."""
    total = sum(row.extra_micro_usd for row in rows)
    if incident.resolved_at is not None or incident.parent_id is not None:
        return total
    now = now or timezone.now()
    return total + sum(
        round(
            (row.micro_usd_per_h - row.micro_usd_per_h_before)
            * max(0.0, (now - row.counted_since).total_seconds())
            / 3600
        )
        for row in rows
    )


def incidents_open_by_kind() -> dict[tuple[str, str, bool], int]:
    """(kind, severity, is a drill's) -> incidents that are not resolved and under no other one, for metrics."""
    found: dict[tuple[str, str, bool], int] = {
        (kind, severity, drilled): 0
        for kind in PLACE_KINDS
        for severity in SEVERITIES
        for drilled in (False, True)
    }
    rows = Incident.objects.filter(resolved_at=None, parent=None)
    counted = rows.values_list("kind", "severity").annotate(Count("pk"), Count("drill")).order_by()
    for kind, severity, count, drilled in counted:
        found |= {(kind, severity, False): count - drilled, (kind, severity, True): drilled}
    return found


def incident_ids_open(*, organization_id: UUID) -> dict[tuple[str, str], UUID]:
    """(kind, name) of every place that is the cause of an incident or a part of it -> that incident's id."""
    rows = Incident.objects.filter(organization_id=organization_id, resolved_at=None, parent=None)
    return {(kind, name): row.pk for row in rows for kind, name in row.members}


def webhooks(*, actor: Actor) -> QuerySet[Webhook]:
    """Of the actor's organization."""
    return Webhook.objects.filter(organization_id=organization_wanted(actor))


def webhook_get(*, actor: Actor, webhook_id: str) -> Webhook:
    """By id. Raises Problem ``not_found``."""
    return row_by_id(webhooks(actor=actor), "webhook", webhook_id)


def deliveries(*, webhook: Webhook) -> QuerySet[WebhookDelivery]:
    """What was and is to be sent to it."""
    return WebhookDelivery.objects.filter(webhook=webhook)


def deliveries_by_state() -> dict[str, int]:
    """How many messages are waiting and were abandoned, for the control plane's metrics."""
    rows = WebhookDelivery.objects.values_list("state").annotate(Count("pk")).order_by()
    return dict.fromkeys(DeliveryState.values, 0) | dict(rows)
