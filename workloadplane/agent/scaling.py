"""Load in, replicas per assignment out: the glue between the gateways' reports and ``workloadplane.autoscaling``.

Load belongs to a revision, bounds to its assignments, one per pool. So a revision's count is decided once,
inside the sum of its assignments' bounds, and dealt out: every assignment gets its minimum, then the pools
are filled in order of what they cost, reserved before on-demand before spot. Load that is still on an ended
assignment's revision counts for the revisions that take over, so that they are big enough when it comes.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from workloadplane.agent.cold_starts import ColdStarts
from workloadplane.agent.disk import RevisionMemory, ScalingFile
from workloadplane.agent.gateways import Finished, RevisionLoad
from workloadplane.agent.record import ReplicaRecord
from workloadplane.agent.work_meter import WorkMemory, WorkMeter
from workloadplane.autoscaling import (
    AutoscalingPolicy,
    LoadHistory,
    Lot,
    ScalingPlan,
    ScalingState,
    SloSeen,
    dealt,
    decide,
    first_state,
    record,
    resumed,
)
from workloadplane.protocol.desired import DesiredAssignment, PoolBound
from workloadplane.protocol.observed import ScalingDecision
from workloadplane.protocol.usage import LATENCY_BUCKETS_S

#: While the control plane is away so many decisions wait for it; then the oldest are forgotten.
_DECISIONS_MAX = 512
#: As many go with one sync, each with so many reasons of so many characters.
_DECISIONS_AT_ONCE = 64
_REASONS_TOLD_MAX = 8
_REASON_CHARS_MAX = 200
#: After a wake a replica stays so long, or as long as its owner waits before fewer suffice, if that is shorter.
_MIN_ALIVE_S = 60.0
#: What a goal at the 95th percentile asks for.
_GOAL_SHARE = 0.95

RevisionKey = tuple[str, str]
Loads = Mapping[RevisionKey, RevisionLoad]


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """Replicas by assignment id that are not on their way out: all, those that serve, those that will."""

    alive: Mapping[str, int]
    ready: Mapping[str, int]
    starting: Mapping[str, int]

    def of(self, group: Sequence[DesiredAssignment], counts: Mapping[str, int]) -> int:
        """A revision's, over its assignments."""
        return sum(counts.get(assignment.assignment_id, 0) for assignment in group)


@dataclass(slots=True)
class _Scaled:
    """One revision's history and the decision it is at.

    load:  in flight and waiting, as told last; None = nobody could tell
    first: first tokens inside and outside the goal that were counted at the last decision
    told:  the count of the last decision that was noted
    """

    history: LoadHistory
    state: ScalingState
    meter: WorkMeter = field(default_factory=lambda: WorkMeter(WorkMemory()))
    reasons: tuple[str, ...] = ()
    load: tuple[float, float] | None = None
    first: tuple[float, float] | None = None
    told: int | None = None


class Scaling:
    """The autoscaling of all revisions of one cluster.

    ``now``: seconds since 1970, of a clock that goes on steadily while this lives. What is remembered of a former life
    is older; if it seems to be of the future, the machine's clock was set back, and it is forgotten.
    """

    def __init__(self, remembered: ScalingFile | None, *, now: float) -> None:
        known = remembered if remembered is not None and remembered.saved_at <= now else None
        absent_s = now - known.saved_at if known is not None else 0.0
        self._revisions: dict[RevisionKey, _Scaled] = {
            (memory.deployment_id, memory.revision_id): _Scaled(
                memory.history, resumed(memory.state, absent_s), WorkMeter(memory.work)
            )
            for memory in (known.revisions if known else ())
        }
        self.cold_starts = ColdStarts(
            known.cold_starts if known else {}, since=known.saved_at if known else 0.0
        )
        self._decisions: deque[ScalingDecision] = deque(maxlen=_DECISIONS_MAX)

    def memory(self, *, now: float) -> ScalingFile:
        """What to keep."""
        return ScalingFile(
            saved_at=now,
            revisions=tuple(
                RevisionMemory(
                    deployment_id=deployment_id,
                    revision_id=revision_id,
                    history=scaled.history,
                    state=scaled.state,
                    work=scaled.meter.memory,
                )
                for (deployment_id, revision_id), scaled in self._revisions.items()
            ),
            cold_starts=self.cold_starts.kept({deployment_id for deployment_id, _ in self._revisions}),
        )

    def decisions(self) -> tuple[ScalingDecision, ...]:
        """The oldest that have not been delivered."""
        return tuple(self._decisions)[:_DECISIONS_AT_ONCE]

    def forget_decisions(self, delivered: Iterable[ScalingDecision]) -> None:
        """These have been."""
        known = set(delivered)
        rest = [decision for decision in self._decisions if decision not in known]
        self._decisions = deque(rest, maxlen=_DECISIONS_MAX)

    def observe(self, assignments: Sequence[DesiredAssignment], loads: Loads | None, *, now: float) -> None:
        """Note the load of each revision; None means that nobody can tell, which is no load of zero."""
        groups = _by_revision(assignments)
        attributed = _attributed(groups, loads) if loads is not None else {}
        for key, scaled in self._revisions.items():
            scaled.load = attributed.get(key)
            group = groups.get(key)
            if scaled.load is None or group is None:
                continue
            if scaled.history.window_s == group[0].autoscaling.autoscaling_window_s:
                scaled.history = record(scaled.history, now=now, concurrency=sum(scaled.load))

    def learn(self, assignments: Sequence[DesiredAssignment], records: Iterable[ReplicaRecord]) -> None:
        """Note what the replicas tell of themselves: how long they took to start, what tokens cost them."""
        found = list(records)
        self.cold_starts.note(found)
        for key, group in _by_revision(assignments).items():
            scaled = self._revisions.get(key)
            if scaled is not None:
                own = (each for each in found if each.facts.revision_id == key[1])
                scaled.meter.learn(own, concurrency_target=group[0].autoscaling.concurrency_target)

    def wanted(
        self,
        assignments: Sequence[DesiredAssignment],
        pools: Iterable[PoolBound],
        supply: Supply,
        finished: Mapping[RevisionKey, Finished],
        *,
        now: float,
    ) -> dict[str, int]:
        """Assignment id -> replicas wanted. ``finished``: what gateways have done of each revision so far."""
        procurement = {pool.pool_id: pool.procurement for pool in pools}
        groups = _by_revision(assignments)
        self._forget_others(groups, now)
        wanted: dict[str, int] = {}
        for key, group in groups.items():
            policy = _policy(group)
            scaled = self._scaled(key, policy, supply.of(group, supply.alive), now)
            plan = self._decide(
                key=key,
                scaled=scaled,
                group=group,
                policy=policy,
                supply=supply,
                finished=finished.get(key, Finished()),
                now=now,
            )
            scaled.state, scaled.reasons = plan.state, plan.reasons
            ready = supply.of(group, supply.ready)
            self._note(key=key, scaled=scaled, policy=policy, plan=plan, ready=ready, now=now)
            wanted.update(dealt(plan.replicas, [_lot(assignment, procurement) for assignment in group]))
        return wanted

    def _decide(
        self,
        *,
        key: RevisionKey,
        scaled: _Scaled,
        group: Sequence[DesiredAssignment],
        policy: AutoscalingPolicy,
        supply: Supply,
        finished: Finished,
        now: float,
    ) -> ScalingPlan:
        work = None
        if scaled.load is not None:
            in_flight, waiting = scaled.load
            work = scaled.meter.step(
                finished,
                in_flight=in_flight,
                waiting=waiting,
                concurrency_target=policy.concurrency_target,
                now=now,
            )
        return decide(
            scaled.history,
            scaled.state,
            policy,
            now=now,
            ready_replicas=supply.of(group, supply.ready),
            starting_replicas=supply.of(group, supply.starting),
            work=work,
            slo=_slo_seen(scaled, finished, group[0].autoscaling.slo_ttft_s_p95),
            cold_start_s=self.cold_starts.p90_s(key[0]),
        )

    def reasons(self, assignment: DesiredAssignment) -> tuple[str, ...]:
        """Why the count of this assignment's revision is what it is."""
        scaled = self._revisions.get((assignment.deployment_id, assignment.revision_id))
        return scaled.reasons if scaled is not None else ()

    def _scaled(self, key: RevisionKey, policy: AutoscalingPolicy, alive: int, now: float) -> _Scaled:
        scaled = self._revisions.get(key)
        if scaled is None:
            state = first_state(replicas=alive, now=now)
            scaled = self._revisions[key] = _Scaled(LoadHistory(window_s=policy.autoscaling_window_s), state)
        elif scaled.history.window_s != policy.autoscaling_window_s:
            scaled.history = LoadHistory(window_s=policy.autoscaling_window_s)
        return scaled

    def _forget_others(self, groups: Mapping[RevisionKey, object], now: float) -> None:
        """Of revisions that are not wanted here any more, that is the last decision."""
        for key in self._revisions.keys() - groups.keys():
            if self._revisions.pop(key).told:
                self._decisions.append(
                    ScalingDecision(
                        deployment_id=key[0],
                        revision_id=key[1],
                        decided_at=now,
                        policy="bounds",
                        replicas=0,
                        ready=0,
                        at_hand=None,
                        reasons=("this cluster is not to run it any more",),
                    )
                )

    def _note(
        self,
        *,
        key: RevisionKey,
        scaled: _Scaled,
        policy: AutoscalingPolicy,
        plan: ScalingPlan,
        ready: int,
        now: float,
    ) -> None:
        if plan.replicas == scaled.told:
            return
        scaled.told = plan.replicas
        self._decisions.append(
            ScalingDecision(
                deployment_id=key[0],
                revision_id=key[1],
                decided_at=now,
                policy=policy.kind,
                replicas=plan.replicas,
                ready=ready,
                at_hand=scaled.history.average(now=now, over_s=policy.panic_window_s),
                reasons=tuple(reason[:_REASON_CHARS_MAX] for reason in plan.reasons[:_REASONS_TOLD_MAX]),
            )
        )


def _by_revision(assignments: Sequence[DesiredAssignment]) -> dict[RevisionKey, list[DesiredAssignment]]:
    groups: dict[RevisionKey, list[DesiredAssignment]] = {}
    for assignment in assignments:
        if not assignment.draining:
            groups.setdefault((assignment.deployment_id, assignment.revision_id), []).append(assignment)
    return groups


def _attributed(groups: Mapping[RevisionKey, object], loads: Loads) -> dict[RevisionKey, tuple[float, float]]:
    """Each live revision's own load, in flight and waiting, and its share of that of revisions that have ended here."""
    live: dict[str, list[RevisionKey]] = {}
    for key in groups:
        live.setdefault(key[0], []).append(key)
    attributed = dict.fromkeys(groups, (0.0, 0.0))
    for key, load in loads.items():
        heirs = [key] if key in attributed else live.get(key[0], [])
        for heir in heirs:
            in_flight, waiting = attributed[heir]
            attributed[heir] = (
                in_flight + load.in_flight / len(heirs),
                waiting + load.waiting / len(heirs),
            )
    return attributed


def _policy(group: Sequence[DesiredAssignment]) -> AutoscalingPolicy:
    bounds = group[0].autoscaling
    return AutoscalingPolicy(
        min_replicas=sum(assignment.autoscaling.min_replicas for assignment in group),
        max_replicas=sum(assignment.autoscaling.max_replicas for assignment in group),
        autoscaling_window_s=bounds.autoscaling_window_s,
        scale_down_delay_s=bounds.scale_down_delay_s,
        concurrency_target=bounds.concurrency_target,
        slo_attainment=_GOAL_SHARE,
        min_alive_s=min(_MIN_ALIVE_S, max(bounds.autoscaling_window_s, bounds.scale_down_delay_s)),
        kind="kpa" if bounds.policy == "kpa" else "predictive",
    )


def _lot(assignment: DesiredAssignment, procurement: Mapping[str, str]) -> Lot:
    bounds = assignment.autoscaling
    return Lot(
        assignment.assignment_id,
        bounds.min_replicas,
        bounds.max_replicas,
        procurement.get(assignment.pool_id),
    )


def _slo_seen(scaled: _Scaled, finished: Finished, goal_s: float | None) -> SloSeen | None:
    """First tokens since the last decision that came inside the goal, and those that did not; None without a goal."""
    if goal_s is None:
        scaled.first = None
        return None
    inside = _inside(finished.ttft_counts, goal_s)
    before, scaled.first = scaled.first, (inside, sum(finished.ttft_counts) - inside)
    if before is None:
        return None
    return SloSeen(
        inside=max(0.0, scaled.first[0] - before[0]), outside=max(0.0, scaled.first[1] - before[1])
    )


def _inside(counts: Sequence[int], goal_s: float) -> float:
    """How many of a histogram's observations did not exceed the goal: evenly spread inside its bucket."""
    inside, lower = 0.0, 0.0
    for upper, count in zip(LATENCY_BUCKETS_S, counts, strict=False):
        if upper > goal_s:
            return inside + count * (goal_s - lower) / (upper - lower)
        inside, lower = inside + count, upper
    return inside
