"""The one door through which conditions change."""

from collections.abc import Sequence

import msgspec
from django.utils import timezone

from apps.deployments.models import ConditionType, Deployment, DeploymentCondition
from apps.telemetry.services import event_record
from workloadplane.protocol.refusal import Refusal

#: (type, status) that somebody should look at.
_WORRYING = {
    (ConditionType.ACCEPTED, False),
    (ConditionType.PLACED, False),
    (ConditionType.READY, False),
    (ConditionType.DEGRADED, True),
}


def condition_set(
    *,
    deployment: Deployment,
    type: ConditionType,  # noqa: A002  (the condition's own word)
    status: bool,
    reason: str,
    message: str,
    observed_generation: int,
    refusals: Sequence[Refusal] = (),
) -> bool:
    """Say what is so now, in the caller's transaction; whether anything differs from what was said before.

    ``deployment`` is locked, ``project`` and ``conditions`` loaded. ``last_transition_at`` moves only when the status
    does, and then an event is written.
    """
    said = {row.type: row for row in deployment.conditions.all()}
    row = said.get(type)
    encoded = [msgspec.to_builtins(refusal) for refusal in refusals]
    message = message[:2047]
    values = (status, reason, message, encoded, observed_generation)
    if row is not None and values == (
        row.status,
        row.reason,
        row.message,
        row.refusals,
        row.observed_generation,
    ):
        return False
    turned = row is None or row.status != status
    said_now = {
        "status": status,
        "reason": reason,
        "message": message,
        "refusals": encoded,
        "observed_generation": observed_generation,
        **({"last_transition_at": timezone.now()} if turned else {}),
    }
    DeploymentCondition.objects.bulk_create(  # one statement: a plan may touch a thousand deployments
        [DeploymentCondition(deployment=deployment, type=type, **said_now)],
        update_conflicts=True,
        unique_fields=["deployment", "type"],
        update_fields=list(said_now),
    )
    if turned and (row is not None or status or type == ConditionType.PLACED):
        event_record(
            organization_id=deployment.project.organization_id,
            project_id=deployment.project_id,
            deployment_id=deployment.pk,
            severity="warning" if (type, status) in _WORRYING else "info",
            reason=type.value if status else f"Not{type.value}",
            message=f"{deployment.name}: {message}",
        )
    return True
