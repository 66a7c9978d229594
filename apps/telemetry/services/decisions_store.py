"""Decisions of scaling from the agents: stored once; what makes no sense, or is of another's deployment, is dropped."""

import math
from collections.abc import Collection, Sequence
from uuid import UUID

import structlog

from apps.accounts import selectors as accounts
from apps.deployments import selectors as deployments
from apps.fleet.models import Cluster
from apps.telemetry.models import ScalingDecision as DecisionRow
from apps.telemetry.wire_values import INTEGER_MAX, is_name, moment, text_for, uuid_or_none
from workloadplane.protocol.observed import ScalingDecision

_log = structlog.get_logger(__name__)

_REASONS_MAX = 16
_REASON_CHARS_MAX = 500


def decisions_store(*, cluster: Cluster, decisions: Sequence[ScalingDecision]) -> None:
    """Store decisions in the caller's transaction; one that is known already changes nothing."""
    if not decisions:
        return
    named = {found for each in decisions if (found := uuid_or_none(each.deployment_id)) is not None}
    projects = set(accounts.project_ids(organization_id=cluster.organization_id))
    known = {
        deployment_id
        for deployment_id, project_id in deployments.project_ids(deployment_ids=named).items()
        if project_id in projects
    }
    rows = [row for each in decisions if (row := _row(each, cluster.pk, known)) is not None]
    if len(rows) < len(decisions):
        _log.warning("scaling decisions dropped", cluster=cluster.name, decisions=len(decisions) - len(rows))
    DecisionRow.objects.bulk_create(rows, batch_size=500, ignore_conflicts=True)


def _row(decision: ScalingDecision, cluster_id: UUID, known: Collection[UUID]) -> DecisionRow | None:
    deployment_id, revision_id = uuid_or_none(decision.deployment_id), uuid_or_none(decision.revision_id)
    if deployment_id not in known or deployment_id is None or revision_id is None:
        return None
    counts = (decision.replicas, decision.ready)
    if not all(0 <= count <= INTEGER_MAX for count in counts) or not is_name(decision.policy, 16):
        return None
    at_hand = decision.at_hand
    if at_hand is not None and not (math.isfinite(at_hand) and at_hand >= 0):
        return None
    try:
        decided_at = moment(decision.decided_at)
    except ValueError:
        return None
    return DecisionRow(
        cluster_id=cluster_id,
        deployment_id=deployment_id,
        revision_id=revision_id,
        decided_at=decided_at,
        policy=decision.policy,
        replicas=decision.replicas,
        ready=decision.ready,
        at_hand=at_hand,
        reasons=[text_for(reason, _REASON_CHARS_MAX) for reason in decision.reasons[:_REASONS_MAX]],
    )
