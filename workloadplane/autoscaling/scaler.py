"""One revision's scaler: the history and the state that ``decide`` goes on from, with a single owner.

The simulator's. An agent, which keeps history and state over its restarts, asks ``decide`` itself.
"""

from workloadplane.autoscaling.decide import ScalingPlan, ScalingState, decide, first_state
from workloadplane.autoscaling.history import LoadHistory, record
from workloadplane.autoscaling.policy import AutoscalingPolicy
from workloadplane.autoscaling.signals import Seen


class PolicyScaler:
    """Decides for one revision, in order of time. ``replicas`` are those alive at the beginning."""

    def __init__(self, policy: AutoscalingPolicy, *, replicas: int, now: float) -> None:
        self._policy = policy
        self._history = LoadHistory(window_s=policy.autoscaling_window_s)
        self._state = first_state(replicas=replicas, now=now)

    @property
    def state(self) -> ScalingState:
        """What was learned so far."""
        return self._state

    def bound(self, policy: AutoscalingPolicy) -> None:
        """From now on this one holds, with the same window: its cluster was given other bounds."""
        self._policy = policy

    def step(self, seen: Seen) -> ScalingPlan:
        """Note what is seen and decide."""
        if seen.concurrency is not None:
            self._history = record(self._history, now=seen.now, concurrency=seen.concurrency)
        plan = decide(
            self._history,
            self._state,
            self._policy,
            now=seen.now,
            ready_replicas=seen.ready,
            starting_replicas=seen.starting,
            work=seen.work,
            slo=seen.slo,
            cold_start_s=seen.cold_start_s,
        )
        self._state = plan.state
        return plan
