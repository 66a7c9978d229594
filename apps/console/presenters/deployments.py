"""Deployments, their conditions and their replicas as the console shows them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from apps.agents.models import Replica, ReplicaState
from apps.console.charts import Segment, stacked_bar
from apps.console.formatting import duration
from apps.deployments.models import ConditionType, Deployment, DeploymentCondition

SIMULATOR = "simulator"

#: The phases of a cold start in their order: attribute, what it is called.
PHASES = (
    ("gpu_procurement", "GPU procurement"),
    ("image_pull", "image pull"),
    ("weight_load", "weight load"),
    ("engine_start", "engine start"),
)


#: How a condition that does not hold is called.
_NOT: Mapping[str, str] = {
    ConditionType.ACCEPTED: "Refused",
    ConditionType.PLACED: "Not placed",
    ConditionType.PROGRESSING: "Settled",
    ConditionType.READY: "Not ready",
    ConditionType.DEGRADED: "Not degraded",
}


@dataclass(frozen=True)
class ConditionView:
    """A condition and whether its status is good news."""

    type: str
    said: str
    status: bool
    tone: str
    reason: str
    message: str
    refusals: tuple[Mapping[str, Any], ...]
    last_transition_at: datetime
    outdated: bool


@dataclass(frozen=True)
class ReplicaView:
    """A replica with its cold start as a bar. ``simulated`` marks one that runs no real engine."""

    replica: Replica
    short_id: str
    engine: str
    simulated: bool
    segments: tuple[Segment, ...]
    cold_start_s: float | None
    not_passed: tuple[str, ...]
    said: str
    running: int | None
    waiting: int | None


@dataclass(frozen=True)
class RegionReplicas:
    """The replicas of a deployment in one region."""

    region: str
    jurisdiction: str
    ready: int
    replicas: tuple[ReplicaView, ...]


@dataclass(frozen=True)
class DeploymentRow:
    """A line of the list."""

    deployment: Deployment
    word: str
    tone: str
    why: str
    model: str
    engine: str
    ready: int
    desired: int


def conditions_view(deployment: Deployment) -> tuple[ConditionView, ...]:
    """In the order of a deployment's life; ``deployment.conditions`` loaded."""
    order = {name: index for index, name in enumerate(ConditionType.values)}
    rows = sorted(deployment.conditions.all(), key=lambda condition: order[condition.type])
    return tuple(
        ConditionView(
            type=row.type,
            said=row.type if row.status else _NOT[row.type],
            status=row.status,
            tone=_condition_tone(row),
            reason=row.reason,
            message=row.message,
            refusals=tuple(row.refusals),
            last_transition_at=row.last_transition_at,
            outdated=row.observed_generation < deployment.generation,
        )
        for row in rows
    )


def _condition_tone(row: DeploymentCondition) -> str:
    if row.type == ConditionType.DEGRADED:
        return "warn" if row.status else "ok"
    if row.type == ConditionType.PROGRESSING:
        return "busy" if row.status else "idle"
    if row.status:
        return "ok"
    return "bad" if row.type in (ConditionType.ACCEPTED, ConditionType.PLACED) else "warn"


def status_word(deployment: Deployment) -> tuple[str, str, str]:
    """One word for a deployment, its tone, and the reason behind it; ``deployment.conditions`` loaded."""
    if deployment.deletion_requested_at is not None:
        return "deleting", "busy", "drains, then stops"
    held = {condition.type: condition for condition in deployment.conditions.all()}
    for kind, status, word, tone in (
        (ConditionType.ACCEPTED, False, "refused", "bad"),
        (ConditionType.PLACED, False, "not placed", "bad"),
        (ConditionType.DEGRADED, True, "degraded", "warn"),
        (ConditionType.READY, True, "ready", "ok"),
        (ConditionType.PROGRESSING, True, "progressing", "busy"),
        (ConditionType.READY, False, "not ready", "warn"),
    ):
        condition = held.get(kind)
        if condition is not None and condition.status == status:
            return word, tone, condition.message
    return "accepted", "busy", "waits to be placed"


def deployment_row(deployment: Deployment, *, ready: int, desired: int) -> DeploymentRow:
    """``conditions`` and ``current_revision`` (model version, model, engine image) loaded."""
    word, tone, why = status_word(deployment)
    revision = deployment.current_revision
    return DeploymentRow(
        deployment=deployment,
        word=word,
        tone=tone,
        why=why,
        model=str(revision.model_version) if revision else "–",
        engine=revision.engine_image.engine if revision else "–",
        ready=ready,
        desired=desired,
    )


def replica_view(replica: Replica, *, scale_s: float) -> ReplicaView:
    """``scale_s``: the cold start that fills the bar, so that bars compare."""
    passed = [
        (kind, label, seconds)
        for kind, label in PHASES
        if (seconds := getattr(replica, f"{kind}_s")) is not None
    ]
    parts = [(kind, label, seconds, duration(seconds)) for kind, label, seconds in passed]
    total = sum(seconds for _, _, seconds in passed) if passed else None
    said = ", ".join(f"{label} {printed}" for _, label, _, printed in parts) or "no phase passed yet"
    return ReplicaView(
        replica=replica,
        short_id=str(replica.pk)[:8],
        engine=replica.engine,
        simulated=replica.engine == SIMULATOR,
        segments=stacked_bar(parts, whole=scale_s),
        cold_start_s=total,
        not_passed=tuple(label for kind, label in PHASES if getattr(replica, f"{kind}_s") is None),
        said=said,
        running=replica.load.get("running"),
        waiting=replica.load.get("waiting"),
    )


def replicas_by_region(replicas: Iterable[Replica]) -> tuple[RegionReplicas, ...]:
    """``replica.cluster.region``, ``pool`` and ``revision`` loaded. Newest first within a region."""
    rows = list(replicas)
    totals = [sum(getattr(row, f"{kind}_s") or 0.0 for kind, _ in PHASES) for row in rows]
    scale_s = max(totals, default=0.0)
    by_region: dict[UUID, list[Replica]] = {}
    for row in rows:
        by_region.setdefault(row.cluster.region_id, []).append(row)
    views = [
        RegionReplicas(
            region=members[0].cluster.region.name,
            jurisdiction=members[0].cluster.region.jurisdiction,
            ready=sum(member.state == ReplicaState.READY for member in members),
            replicas=tuple(replica_view(member, scale_s=scale_s) for member in members),
        )
        for members in by_region.values()
    ]
    return tuple(sorted(views, key=lambda view: view.region))


def phase_legend(regions: Sequence[RegionReplicas]) -> tuple[tuple[str, str], ...]:
    """The phases that some replica has passed; others need no colour."""
    seen = {segment.kind for region in regions for replica in region.replicas for segment in replica.segments}
    return tuple((kind, label) for kind, label in PHASES if kind in seen)
