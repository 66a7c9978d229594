"""Load in, replicas per assignment out: the glue between the gateways' reports and ``workloadplane.autoscaling``.

Load belongs to a revision, bounds to its assignments, one per pool. So a revision's count is decided once,
inside the sum of its assignments' bounds, and dealt out: every assignment gets its minimum, then the pools
are filled in order of what they cost, reserved before on-demand before spot. Load that is still on an ended
assignment's revision counts for the revisions that take over, so that they are big enough when it comes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from workloadplane.agent.gateways import RevisionLoad
from workloadplane.autoscaling import (
    AutoscalingPolicy,
    LoadHistory,
    ScalingState,
    decide,
    first_state,
    record,
)
from workloadplane.protocol.desired import DesiredAssignment, PoolBound

_PROCUREMENT_ORDER = ("reserved", "on_demand", "spot")

Loads = Mapping[tuple[str, str], RevisionLoad]


@dataclass(slots=True)
class _Scaled:
    """One revision's history and the decision it is at."""

    history: LoadHistory
    state: ScalingState
    reasons: tuple[str, ...] = ()


class Scaling:
    """The autoscaling of all revisions of one cluster. ``now`` is of the monotonic clock."""

    def __init__(self) -> None:
        self._revisions: dict[tuple[str, str], _Scaled] = {}

    def observe(self, assignments: Sequence[DesiredAssignment], loads: Loads | None, *, now: float) -> None:
        """Note the load of each revision; None means that nobody can tell, which is no load of zero."""
        if loads is None:
            return
        groups = _by_revision(assignments)
        for key, concurrency in _attributed(groups, loads).items():
            group = groups[key]
            scaled = self._revisions.get(key)
            if scaled is None or scaled.history.window_s != group[0].autoscaling.autoscaling_window_s:
                continue
            scaled.history = record(scaled.history, now=now, concurrency=concurrency)

    def wanted(
        self,
        assignments: Sequence[DesiredAssignment],
        pools: Iterable[PoolBound],
        *,
        alive: Mapping[str, int],
        ready: Mapping[str, int],
        now: float,
    ) -> dict[str, int]:
        """Assignment id -> replicas wanted. ``alive`` and ``ready`` count replicas by assignment id."""
        procurement = {pool.pool_id: pool.procurement for pool in pools}
        groups = _by_revision(assignments)
        self._revisions = {key: scaled for key, scaled in self._revisions.items() if key in groups}
        wanted: dict[str, int] = {}
        for key, group in groups.items():
            policy = _policy(group)
            scaled = self._scaled(key, policy, sum(alive.get(a.assignment_id, 0) for a in group), now)
            plan = decide(
                scaled.history,
                scaled.state,
                policy,
                now=now,
                ready_replicas=sum(ready.get(a.assignment_id, 0) for a in group),
            )
            scaled.state, scaled.reasons = plan.state, plan.reasons
            wanted.update(_dealt(plan.replicas, group, procurement))
        return wanted

    def reasons(self, assignment: DesiredAssignment) -> tuple[str, ...]:
        """Why the count of this assignment's revision is what it is."""
        scaled = self._revisions.get((assignment.deployment_id, assignment.revision_id))
        return scaled.reasons if scaled is not None else ()

    def _scaled(self, key: tuple[str, str], policy: AutoscalingPolicy, alive: int, now: float) -> _Scaled:
        scaled = self._revisions.get(key)
        if scaled is None:
            state = first_state(replicas=alive, now=now)
            scaled = self._revisions[key] = _Scaled(LoadHistory(window_s=policy.autoscaling_window_s), state)
        elif scaled.history.window_s != policy.autoscaling_window_s:
            scaled.history = LoadHistory(window_s=policy.autoscaling_window_s)
        return scaled


def _by_revision(assignments: Sequence[DesiredAssignment]) -> dict[tuple[str, str], list[DesiredAssignment]]:
    groups: dict[tuple[str, str], list[DesiredAssignment]] = {}
    for assignment in assignments:
        if not assignment.draining:
            groups.setdefault((assignment.deployment_id, assignment.revision_id), []).append(assignment)
    return groups


def _attributed(groups: Mapping[tuple[str, str], object], loads: Loads) -> dict[tuple[str, str], float]:
    """Each live revision's own load, and its share of that of revisions that have ended here."""
    live: dict[str, list[tuple[str, str]]] = {}
    for key in groups:
        live.setdefault(key[0], []).append(key)
    attributed = dict.fromkeys(groups, 0.0)
    for key, load in loads.items():
        heirs = [key] if key in attributed else live.get(key[0], [])
        for heir in heirs:
            attributed[heir] += (load.in_flight + load.waiting) / len(heirs)
    return attributed


def _policy(group: Sequence[DesiredAssignment]) -> AutoscalingPolicy:
    bounds = group[0].autoscaling
    return AutoscalingPolicy(
        kind="kpa",
        min_replicas=sum(assignment.autoscaling.min_replicas for assignment in group),
        max_replicas=sum(assignment.autoscaling.max_replicas for assignment in group),
        autoscaling_window_s=bounds.autoscaling_window_s,
        scale_down_delay_s=bounds.scale_down_delay_s,
        concurrency_target=bounds.concurrency_target,
    )


def _dealt(
    replicas: int, group: Sequence[DesiredAssignment], procurement: Mapping[str, str]
) -> dict[str, int]:
    dealt = {assignment.assignment_id: assignment.autoscaling.min_replicas for assignment in group}
    left = replicas - sum(dealt.values())
    for assignment in sorted(group, key=lambda a: (_cost_rank(procurement.get(a.pool_id)), a.assignment_id)):
        bounds = assignment.autoscaling
        more = max(0, min(left, bounds.max_replicas - bounds.min_replicas))
        dealt[assignment.assignment_id] += more
        left -= more
    return dealt


def _cost_rank(procurement: str | None) -> int:
    if procurement in _PROCUREMENT_ORDER:
        return _PROCUREMENT_ORDER.index(procurement)
    return len(_PROCUREMENT_ORDER)
