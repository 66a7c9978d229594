"""The one door through which conditions change."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import msgspec
from django.utils import timezone

from apps.deployments.judgement import Verdict
from apps.deployments.models import ConditionType, Deployment, DeploymentCondition
from apps.telemetry.services import EventFacts, events_record

#: (type, status) that somebody should look at.
_WORRYING = {
    (ConditionType.ACCEPTED, False),
    (ConditionType.PLACED, False),
    (ConditionType.READY, False),
    (ConditionType.DEGRADED, True),
}
_MESSAGE_CHARACTERS_MAX = 2047
_SAID = ("status", "reason", "message", "refusals", "observed_generation")


def conditions_set(*, verdicts: Iterable[tuple[Deployment, Verdict]]) -> set[UUID]:
    """Say what is so now, in the caller's transaction; ids of deployments of which anything else was said before.

    The deployments are locked, ``project`` and ``conditions`` loaded. ``last_transition_at`` moves only when the status
    does, and then an event is written. Three statements at most, for a plan may touch a thousand deployments.
    """
    now = timezone.now()
    turned: list[DeploymentCondition] = []
    reworded: list[DeploymentCondition] = []
    events: list[EventFacts] = []
    for deployment, verdict in verdicts:
        before = next((row for row in deployment.conditions.all() if row.type == verdict.type), None)
        said = _said(verdict)
        if before is not None and all(said[name] == getattr(before, name) for name in _SAID):
            continue
        row = DeploymentCondition(deployment=deployment, type=verdict.type, last_transition_at=now, **said)
        if before is not None and before.status == verdict.status:
            reworded.append(row)
            continue
        turned.append(row)
        if before is not None or verdict.status or verdict.type == ConditionType.PLACED:
            events.append(_event(deployment, row))
    _store(reworded, _SAID)
    _store(turned, (*_SAID, "last_transition_at"))
    if events:
        events_record(events=events)
    return {row.deployment_id for row in (*reworded, *turned)}


def _said(verdict: Verdict) -> dict[str, Any]:
    return {
        "status": verdict.status,
        "reason": verdict.reason,
        "message": verdict.message[:_MESSAGE_CHARACTERS_MAX],
        "refusals": [msgspec.to_builtins(refusal) for refusal in verdict.refusals],
        "observed_generation": verdict.observed_generation,
    }


def _store(rows: Sequence[DeploymentCondition], fields: Sequence[str]) -> None:
    DeploymentCondition.objects.bulk_create(
        rows, update_conflicts=True, unique_fields=["deployment", "type"], update_fields=fields
    )


def _event(deployment: Deployment, row: DeploymentCondition) -> EventFacts:
    kind = ConditionType(row.type)
    return EventFacts(
        organization_id=deployment.project.organization_id,
        project_id=deployment.project_id,
        deployment_id=deployment.pk,
        severity="warning" if (kind, row.status) in _WORRYING else "info",
        reason=kind.value if row.status else f"Not{kind.value}",
        message=f"{deployment.name}: {row.message}",
    )
