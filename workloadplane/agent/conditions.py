"""What the agent says of each assignment: ready or not, degraded or not, and why. Pure.

Nothing in a condition changes with time alone, so that an unchanged cluster has nothing to report.
"""

from collections.abc import Mapping, Sequence

from workloadplane.agent.actions import Shortfall
from workloadplane.protocol.desired import DesiredAssignment
from workloadplane.protocol.observed import ObservedCondition, ObservedReplica
from workloadplane.words import counted


def conditions_of(
    assignments: Sequence[DesiredAssignment],
    replicas: Sequence[ObservedReplica],
    wanted: Mapping[str, int],
    shortfalls: Sequence[Shortfall],
) -> tuple[ObservedCondition, ...]:
    """``Ready`` and ``Degraded`` of every assignment that shall run, ``ScalingLimited`` where it applies."""
    short = {shortfall.assignment_id: shortfall for shortfall in shortfalls}
    by_assignment: dict[str, list[ObservedReplica]] = {}
    for replica in replicas:
        by_assignment.setdefault(replica.assignment_id, []).append(replica)
    conditions: list[ObservedCondition] = []
    for assignment in assignments:
        if assignment.draining:
            continue
        own = by_assignment.get(assignment.assignment_id, [])
        goal = wanted.get(assignment.assignment_id, assignment.autoscaling.min_replicas)
        conditions.append(_ready(assignment, own, goal))
        conditions.extend(_limits(assignment, own, short.get(assignment.assignment_id)))
    return tuple(conditions)


def _ready(
    assignment: DesiredAssignment, replicas: Sequence[ObservedReplica], goal: int
) -> ObservedCondition:
    ready = sum(replica.state == "ready" for replica in replicas)
    if goal == 0:
        status, reason, message = True, "ScaledToZero", "no replica until a request comes"
    else:
        status = ready >= goal
        reason = "ReplicasReady" if status else "ReplicasStarting"
        message = f"{ready} of {counted(goal, 'replica')} ready"
    return ObservedCondition(
        assignment_id=assignment.assignment_id, type="Ready", status=status, reason=reason, message=message
    )


def _limits(
    assignment: DesiredAssignment, replicas: Sequence[ObservedReplica], shortfall: Shortfall | None
) -> list[ObservedCondition]:
    """Below the minimum it is degraded; short of what the load asks for above it, only limited."""
    below = shortfall is not None and shortfall.held < assignment.autoscaling.min_replicas
    degraded = ObservedCondition(
        assignment_id=assignment.assignment_id,
        type="Degraded",
        status=below,
        reason=_camel(shortfall.refusal.rule) if shortfall is not None and below else "WithinBounds",
        message=_message(shortfall, replicas) if shortfall is not None and below else "",
        refusal=shortfall.refusal if shortfall is not None and below else None,
    )
    if shortfall is None or below:
        return [degraded]
    limited = ObservedCondition(
        assignment_id=assignment.assignment_id,
        type="ScalingLimited",
        status=True,
        reason=_camel(shortfall.refusal.rule),
        message=_message(shortfall, replicas),
        refusal=shortfall.refusal,
    )
    return [degraded, limited]


def _message(shortfall: Shortfall, replicas: Sequence[ObservedReplica]) -> str:
    message = f"{shortfall.held} of {counted(shortfall.wanted, 'replica')}: {shortfall.refusal.value}"
    failed = [replica for replica in replicas if replica.state == "failed"]
    if shortfall.refusal.rule != "crash_back_off" or not failed:
        return message
    last = max(failed, key=lambda replica: replica.stopped_at or 0.0)
    return f"{message}; the last one: {last.message}"


def _camel(rule: str) -> str:
    return "".join(part.capitalize() for part in rule.split("_"))
