"""Knative's pod autoscaler algorithm: two windows, a panic that only rises, rates, a delay on the way down.

Source: the algorithm described in the documentation of Knative Serving's autoscaler ("KPA"). Load is the
average concurrency, in requests, over a long (stable) and a short (panic) window.

It errs on the side of too many replicas: counts are rounded up, the higher window wins during a panic, and
the highest count of the last ``delay_s`` seconds is kept.
"""

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class KpaPolicy:
    """``target``: requests per replica; ``activation``: the least count when there is any load at all."""

    target: float
    panic_threshold: float = 2.0
    scale_up_rate: float = 1000.0
    scale_down_rate: float = 2.0
    stable_window_s: float = 60.0
    delay_s: float = 0.0
    activation: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class KpaState:
    """What the algorithm remembers. ``wanted``: (time, count) of the delay, those no later one exceeds."""

    panic_since: float | None = None
    panic_peak: int = 0
    wanted: tuple[tuple[float, int], ...] = ()


def kpa(
    *,
    stable: float,
    panic: float,
    ready: int,
    state: KpaState,
    policy: KpaPolicy,
    now: float,
    reachable: bool = True,
) -> tuple[int, KpaState]:
    """The count wanted, and the state for the next call.

    ``reachable`` False means that nothing sends to these replicas any more: then the rate on the way down is off.
    """
    base = max(1, ready)
    most = math.ceil(policy.scale_up_rate * base)
    least = math.floor(base / policy.scale_down_rate) if reachable else 0
    by_stable = _count(stable, policy)
    by_panic = _count(panic, policy)

    if by_panic / base >= policy.panic_threshold:
        state = replace(state, panic_since=now)
    elif state.panic_since is not None and state.panic_since + policy.stable_window_s < now:
        state = replace(state, panic_since=None, panic_peak=0)

    wanted = min(max(by_stable, least), most)
    if state.panic_since is not None:
        wanted = max(wanted, min(max(by_panic, least), most), state.panic_peak)
        state = replace(state, panic_peak=wanted)
    return _delayed(wanted, state, policy, now)


def _count(load: float, policy: KpaPolicy) -> int:
    wanted = math.ceil(load / policy.target)
    return max(wanted, policy.activation) if wanted > 0 else wanted


def _delayed(wanted: int, state: KpaState, policy: KpaPolicy, now: float) -> tuple[int, KpaState]:
    if policy.delay_s <= 0:
        return wanted, replace(state, wanted=())
    kept = tuple((at, count) for at, count in state.wanted if now - at < policy.delay_s and count > wanted)
    kept = (*kept, (now, wanted))
    return kept[0][1], replace(state, wanted=kept)
