"""The decision: windows of load through the algorithm, then the bounds, then the grace before zero."""

from dataclasses import dataclass, field, replace

from workloadplane.autoscaling.history import LoadHistory
from workloadplane.autoscaling.kpa import KpaPolicy, KpaState, kpa
from workloadplane.autoscaling.policy import AutoscalingPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingState:
    """What a decision remembers of those before it.

    replicas:      the count decided last
    begun_at:      when the first decision was made; an empty past never scales down
    zero_since:    since when the load has wanted no replica at all
    """

    replicas: int
    begun_at: float
    zero_since: float | None = None
    algorithm: KpaState = field(default_factory=KpaState)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingPlan:
    """How many replicas, why, and the state for the next decision."""

    replicas: int
    reasons: tuple[str, ...]
    state: ScalingState


def first_state(*, replicas: int, now: float) -> ScalingState:
    """The state of a revision seen for the first time, with ``replicas`` alive (those adopted)."""
    return ScalingState(replicas=replicas, begun_at=now, algorithm=KpaState(wanted=((now, replicas),)))


def decide(
    history: LoadHistory, state: ScalingState, policy: AutoscalingPolicy, *, now: float, ready_replicas: int
) -> ScalingPlan:
    """The replicas wanted now.

    Load that is missing or older than the panic window scales nothing down: the last count stands, inside
    the bounds. The first stable window after the start never scales down either, as its average would be of
    too little.
    """
    panic = history.average(now=now, over_s=policy.panic_window_s)
    stable = history.average(now=now, over_s=policy.autoscaling_window_s)
    if panic is None or stable is None:
        return _bounded(
            state.replicas,
            replace(state, zero_since=None),
            policy,
            ("no load was reported within the panic window: the last count stands",),
        )
    count, algorithm = kpa(
        stable=stable,
        panic=panic,
        ready=ready_replicas,
        state=state.algorithm,
        policy=KpaPolicy(
            target=policy.concurrency_target,
            panic_threshold=policy.panic_threshold,
            scale_up_rate=policy.scale_up_rate,
            scale_down_rate=policy.scale_down_rate,
            stable_window_s=policy.autoscaling_window_s,
            delay_s=policy.scale_down_delay_s,
        ),
        now=now,
    )
    reasons = [
        f"{stable:.2f} requests at hand over {policy.autoscaling_window_s:g} s, {panic:.2f} over "
        f"{policy.panic_window_s:g} s, {policy.concurrency_target:g} per replica: {count}"
    ]
    if algorithm.panic_since is not None:
        reasons.append(f"panic since {now - algorithm.panic_since:.0f} s: not below {algorithm.panic_peak}")
    if count < state.replicas and now - state.begun_at < policy.autoscaling_window_s:
        count = state.replicas
        reasons.append("the first window has not passed: nothing is scaled down yet")
    count, zero_since = _graced(count, state, policy, now, reasons)
    return _bounded(count, replace(state, algorithm=algorithm, zero_since=zero_since), policy, tuple(reasons))


def _graced(
    count: int, state: ScalingState, policy: AutoscalingPolicy, now: float, reasons: list[str]
) -> tuple[int, float | None]:
    """The last replica stays for the grace; without one there is nothing to keep."""
    if count > 0:
        return count, None
    zero_since = now if state.zero_since is None else state.zero_since
    if state.replicas > 0 and now - zero_since < policy.scale_to_zero_grace_s:
        reasons.append(f"the last replica stays {policy.scale_to_zero_grace_s:g} s after the load has gone")
        return 1, zero_since
    return 0, zero_since


def _bounded(
    count: int, state: ScalingState, policy: AutoscalingPolicy, reasons: tuple[str, ...]
) -> ScalingPlan:
    bounded = min(max(count, policy.min_replicas), policy.max_replicas)
    if bounded > count:
        reasons = (*reasons, f"min_replicas is {policy.min_replicas}")
    elif bounded < count:
        reasons = (*reasons, f"max_replicas is {policy.max_replicas}")
    return ScalingPlan(
        replicas=bounded,
        reasons=reasons,
        state=replace(state, replicas=bounded),
    )
