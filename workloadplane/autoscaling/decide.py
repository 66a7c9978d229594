"""The decision: the load through the policy's algorithm, then what may be scaled down, then the bounds."""

import math

from msgspec import Struct, field
from msgspec.structs import replace

from workloadplane.autoscaling.history import LoadHistory
from workloadplane.autoscaling.hold import Held, held
from workloadplane.autoscaling.idle import Idleness, may_sleep, step
from workloadplane.autoscaling.kpa import KpaPolicy, KpaState, kpa
from workloadplane.autoscaling.policy import AutoscalingPolicy
from workloadplane.autoscaling.predictive import DEFAULT_COLD_START_S, PredictiveState, predictive, why
from workloadplane.autoscaling.signals import MOST_DEMAND, Seen, SloSeen, WorkSeen

_MISSING = "no load was reported within the panic window: the last count stands"


class ScalingState(Struct, frozen=True, kw_only=True):
    """What a decision remembers of those before it.

    replicas:      the count decided last
    begun_at:      when the first decision was made; an empty past never scales down
    there:         replicas, ready or starting, of the last window: the bound on the way down goes by them
    zero_since:    since when the load has wanted no replica at all (``kpa``)
    """

    replicas: int
    begun_at: float
    there: Held = ()
    zero_since: float | None = None
    algorithm: KpaState = field(default_factory=KpaState)
    predictive: PredictiveState = field(default_factory=PredictiveState)
    idleness: Idleness = field(default_factory=Idleness)


class ScalingPlan(Struct, frozen=True, kw_only=True):
    """How many replicas, why, and the state for the next decision."""

    replicas: int
    reasons: tuple[str, ...]
    state: ScalingState


def first_state(*, replicas: int, now: float) -> ScalingState:
    """The state of a revision seen for the first time, with ``replicas`` alive (those adopted)."""
    wanted = ((now, replicas),)
    return ScalingState(
        replicas=replicas,
        begun_at=now,
        algorithm=KpaState(wanted=wanted),
        predictive=PredictiveState(wanted=wanted, foreseen=wanted),
    )


def resumed(state: ScalingState, absent_s: float) -> ScalingState:
    """The state after so long in which nothing was seen: that was no idleness."""
    zero_since, idleness = state.zero_since, state.idleness
    if zero_since is not None:
        zero_since += absent_s
    if idleness.busy_at is not None:
        idleness = replace(idleness, busy_at=idleness.busy_at + absent_s)
    return replace(state, zero_since=zero_since, idleness=idleness)


def decide(
    history: LoadHistory,
    state: ScalingState,
    policy: AutoscalingPolicy,
    *,
    now: float,
    ready_replicas: int,
    starting_replicas: int = 0,
    work: WorkSeen | None = None,
    slo: SloSeen | None = None,
    cold_start_s: float | None = None,
) -> ScalingPlan:
    """The replicas wanted now, those that are starting among them.

    ``history`` holds the requests at hand. ``predictive`` reads ``work``, the token work that arrived since the last
    decision, and takes the requests at hand where nobody can tell the work; ``slo`` sets its head-room, and
    ``cold_start_s``, the learned p90, is how far it looks ahead (180 s until one was measured).

    Load that is missing or older than the panic window scales nothing down: the last count stands, inside
    the bounds. The first stable window after the start never scales down either, as its average would be of
    too little.
    """
    if policy.kind == "kpa":
        return _by_kpa(history, state, policy, now, ready_replicas)
    works = work is not None and bool(work.demand)
    seen = Seen(
        now=now,
        ready=ready_replicas,
        starting=starting_replicas,
        concurrency=None if works else history.average(now=now, over_s=policy.panic_window_s),
        work=work,
        slo=slo,
        cold_start_s=_sound(cold_start_s),
    )
    return _by_forecast(state, policy, seen)


def _by_forecast(state: ScalingState, policy: AutoscalingPolicy, seen: Seen) -> ScalingPlan:
    demand, work = _demand(seen, policy)
    if demand is None:
        return _bounded(state.replicas, state, policy, (_MISSING,))
    cold_start_s = seen.cold_start_s or DEFAULT_COLD_START_S
    count, need, learned = predictive(
        demand=demand,
        work=work,
        slo=seen.slo,
        supply=seen.ready + seen.starting,
        last=state.replicas,
        state=state.predictive,
        policy=policy,
        cold_start_s=cold_start_s,
        now=seen.now,
    )
    told = list(why(need, count, learned, cold_start_s))
    busy = demand > 0 or bool(seen.concurrency) or (work is not None and work.waiting_s > 0)
    idleness = step(state.idleness, busy=busy, asleep=state.replicas == 0, now=seen.now)
    count = _awake(
        count, busy=busy, last=state.replicas, idleness=idleness, policy=policy, seen=seen, told=told
    )
    there = held(state.there, seen.ready + seen.starting, policy.autoscaling_window_s, seen.now)
    count = _not_too_soon(count, most=there[0][1], state=state, policy=policy, seen=seen, told=told)
    count, told = _inside(count, policy, told)
    after = ScalingState(
        replicas=count,
        begun_at=state.begun_at,
        there=there,
        algorithm=state.algorithm,
        predictive=learned,
        idleness=idleness,
    )
    return ScalingPlan(replicas=count, reasons=tuple(told), state=after)


def _demand(seen: Seen, policy: AutoscalingPolicy) -> tuple[float | None, WorkSeen | None]:
    """The load in replicas, by the work that arrived or else by the requests at hand; and the work, if it was told."""
    demand = seen.work.demand if seen.work is not None else None
    if demand is not None:
        return demand, seen.work
    if seen.concurrency is None:
        return None, None
    return min(seen.concurrency / policy.concurrency_target, MOST_DEMAND), None


def _sound(cold_start_s: float | None) -> float:
    """A cold start to look ahead by: at least a second, at most an hour."""
    if cold_start_s is None or not math.isfinite(cold_start_s) or cold_start_s < 0:
        return DEFAULT_COLD_START_S
    return min(max(cold_start_s, 1.0), 3600.0)


def _not_too_soon(
    count: int, *, most: int, state: ScalingState, policy: AutoscalingPolicy, seen: Seen, told: list[str]
) -> int:
    """Nothing goes in the first window, nothing that is starting while some of it is wanted, never too much at once.

    ``most``: the most that were there within the last window, whose share is the least that may be left of them.
    """
    supply = seen.ready + seen.starting
    if count < state.replicas and seen.now - state.begun_at < policy.autoscaling_window_s:
        told.append("the first window has not passed: nothing is scaled down yet")
        return state.replicas
    least = min(math.floor(most / policy.scale_down_rate), supply)
    if count < least:
        told.append(
            f"{most} were there within {policy.autoscaling_window_s:g} s, of which 1/{policy.scale_down_rate:g} "
            f"stays: {least}"
        )
        count = least
    if seen.starting and seen.ready < count < supply:
        told.append(f"{seen.starting} are starting and some of them are wanted: they are not cancelled")
        return supply
    return count


def _awake(
    count: int,
    *,
    busy: bool,
    last: int,
    idleness: Idleness,
    policy: AutoscalingPolicy,
    seen: Seen,
    told: list[str],
) -> int:
    """At least one while there is load or the revision was not idle for long; none once it was, or while it sleeps."""
    if policy.min_replicas > 0:
        return max(count, 1)
    if busy:
        if last == 0:
            told.append(f"woken; it stays at least {idleness.stay_s(policy):g} s")
        return max(count, 1)
    if last == 0:
        return 0
    asleep, reason = may_sleep(idleness, policy, seen.now)
    told.append(reason)
    return 0 if asleep else max(count, 1)


def _by_kpa(
    history: LoadHistory, state: ScalingState, policy: AutoscalingPolicy, now: float, ready_replicas: int
) -> ScalingPlan:
    panic = history.average(now=now, over_s=policy.panic_window_s)
    stable = history.average(now=now, over_s=policy.autoscaling_window_s)
    if panic is None or stable is None:
        return _bounded(state.replicas, replace(state, zero_since=None), policy, (_MISSING,))
    target = policy.concurrency_target * policy.target_utilisation
    count, algorithm = kpa(
        stable=stable,
        panic=panic,
        ready=ready_replicas,
        state=state.algorithm,
        policy=KpaPolicy(
            target=target,
            panic_threshold=policy.panic_threshold,
            scale_up_rate=policy.scale_up_rate,
            scale_down_rate=policy.scale_down_rate,
            stable_window_s=policy.autoscaling_window_s,
            delay_s=policy.scale_down_delay_s,
        ),
        now=now,
    )
    told = [
        f"{stable:.2f} requests at hand over {policy.autoscaling_window_s:g} s, {panic:.2f} over "
        f"{policy.panic_window_s:g} s, {target:g} per replica: {count}"
    ]
    if algorithm.panic_since is not None:
        told.append(f"panic since {now - algorithm.panic_since:.0f} s: not below {algorithm.panic_peak}")
    if count < state.replicas and now - state.begun_at < policy.autoscaling_window_s:
        count = state.replicas
        told.append("the first window has not passed: nothing is scaled down yet")
    count, zero_since = _graced(count, state, policy, now, told)
    return _bounded(count, replace(state, algorithm=algorithm, zero_since=zero_since), policy, tuple(told))


def _graced(
    count: int, state: ScalingState, policy: AutoscalingPolicy, now: float, told: list[str]
) -> tuple[int, float | None]:
    """The last replica stays for the grace; without one there is nothing to keep."""
    if count > 0:
        return count, None
    zero_since = now if state.zero_since is None else state.zero_since
    if state.replicas > 0 and now - zero_since < policy.scale_to_zero_grace_s:
        told.append(f"the last replica stays {policy.scale_to_zero_grace_s:g} s after the load has gone")
        return 1, zero_since
    return 0, zero_since


def _bounded(
    count: int, state: ScalingState, policy: AutoscalingPolicy, told: tuple[str, ...]
) -> ScalingPlan:
    bounded, reasons = _inside(count, policy, list(told))
    return ScalingPlan(replicas=bounded, reasons=tuple(reasons), state=replace(state, replicas=bounded))


def _inside(count: int, policy: AutoscalingPolicy, told: list[str]) -> tuple[int, list[str]]:
    bounded = min(max(count, policy.min_replicas), policy.max_replicas)
    if bounded > count:
        return bounded, [*told, f"min_replicas is {policy.min_replicas}"]
    if bounded < count:
        return bounded, [*told, f"max_replicas is {policy.max_replicas}"]
    return bounded, told
