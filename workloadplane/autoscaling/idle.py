"""To zero and back: when a revision is idle, and how long it stays after somebody has woken it."""

from msgspec import Struct
from msgspec.structs import replace

from workloadplane.autoscaling.policy import AutoscalingPolicy

#: Wakes within this time of one another lengthen the stay, doubling at most so often.
WAKES_WITHIN_S = 3600.0
MOST_DOUBLINGS = 5


class Idleness(Struct, frozen=True, kw_only=True):
    """When load was last seen, when a wake was last needed, and how many came within an hour of another."""

    busy_at: float | None = None
    woken_at: float | None = None
    wakes: int = 0

    def stay_s(self, policy: AutoscalingPolicy) -> float:
        """Seconds for which a wake keeps at least one replica."""
        return policy.min_alive_s * float(1 << min(max(0, self.wakes - 1), MOST_DOUBLINGS))


def step(state: Idleness, *, busy: bool, asleep: bool, now: float) -> Idleness:
    """The state after a look; ``asleep``: no replica is wanted so far."""
    if not busy:
        return replace(state, busy_at=now) if state.busy_at is None else state
    if asleep:
        close = state.woken_at is not None and now - state.woken_at < WAKES_WITHIN_S
        return Idleness(busy_at=now, woken_at=now, wakes=state.wakes + 1 if close else 1)
    return Idleness(busy_at=now, woken_at=state.woken_at, wakes=state.wakes)


def may_sleep(state: Idleness, policy: AutoscalingPolicy, now: float) -> tuple[bool, str]:
    """Whether the last replica may go, and why not."""
    idle_s = now - state.busy_at if state.busy_at is not None else 0.0
    wait_s = max(policy.autoscaling_window_s, policy.scale_down_delay_s) + policy.scale_to_zero_grace_s
    if idle_s < wait_s:
        return False, f"the last replica stays until {wait_s:g} s have passed without load"
    if state.woken_at is not None and now - state.woken_at < state.stay_s(policy):
        return False, f"the last replica stays {state.stay_s(policy):g} s after it was woken"
    return True, f"no load for {idle_s:.0f} s"
