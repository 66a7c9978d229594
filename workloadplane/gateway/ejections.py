"""What this gateway holds against replicas and peers: evidence goes in, who is avoided comes out.

Nothing is kept of those that are sound, so a request on a sound replica costs a look into an empty dictionary.
"""

from collections import Counter
from collections.abc import Container, Mapping

from workloadplane.health.budget import RetryBudget
from workloadplane.health.ejection import SOUND, Ejection, EjectionPolicy, Event, avoided, step
from workloadplane.health.stall import StallPolicy, Usual, stuck_after_s

_STALL = StallPolicy()


class Vitals:
    """One replica's signs of life, and how long it usually takes.

    heard_s: when anything came from it last, for whomever
    """

    __slots__ = ("first_token", "gap", "heard_s", "whole")

    def __init__(self) -> None:
        self.heard_s = 0.0
        self.first_token = Usual()
        self.gap = Usual()
        self.whole = Usual()


class Ejections:
    """One per process. ``counts``: ejections by deployment and cause; ``states``: of those that are not sound."""

    __slots__ = ("_budgets", "_policy", "_vitals", "counts", "states")

    def __init__(self, policy: EjectionPolicy, counts: Counter[tuple[str, ...]]) -> None:
        self._policy = policy
        self._vitals: dict[str, Vitals] = {}
        self._budgets: dict[str, RetryBudget] = {}
        self.counts = counts
        self.states: dict[str, Ejection] = {}

    def note(self, name: str, event: Event, now_s: float, *, deployment_id: str = "") -> None:
        """Evidence on a replica, of this deployment, or on a peer, by its name."""
        before = self.states.get(name, SOUND)
        after = step(before, event, now_s, self._policy)
        if after is before:
            return
        if after.phase == "ejected" and before.phase != "ejected" and event != "withdrawn":
            self.counts[deployment_id, event] += 1
        if after == SOUND:
            self.states.pop(name, None)
        else:
            self.states[name] = after

    def avoided(
        self, members: Container[str], count: int, in_flight: Mapping[str, int], now_s: float
    ) -> set[str]:
        """Which of these get nothing now."""
        return avoided(self.states, members, count, in_flight=in_flight, now_s=now_s, policy=self._policy)

    def ejected(self, members: Container[str]) -> dict[str, str]:
        """Those that are out, and why."""
        return {
            name: state.cause
            for name, state in self.states.items()
            if state.phase in ("ejected", "probing") and name in members
        }

    def vitals(self, replica_id: str) -> Vitals:
        vitals = self._vitals.get(replica_id)
        if vitals is None:
            vitals = self._vitals[replica_id] = Vitals()
        return vitals

    def budget(self, deployment_id: str, now_s: float) -> RetryBudget:
        budget = self._budgets.get(deployment_id)
        if budget is None:
            budget = self._budgets[deployment_id] = RetryBudget(now_s)
        return budget

    def keep_only(self, names: Container[str]) -> None:
        """Forget replicas and peers that are no more: their names don't come back."""
        for name in [name for name in self.states if name not in names]:
            del self.states[name]
        for name in [name for name in self._vitals if name not in names]:
            del self._vitals[name]

    def keep_budgets(self, deployments: Container[str]) -> None:
        """Forget deployments that are no more."""
        for name in [name for name in self._budgets if name not in deployments]:
            del self._budgets[name]


def stuck_after(usual: Usual, floor_s: float) -> float:
    """After how many seconds of silence a replica counts as stuck."""
    return stuck_after_s(usual, floor_s, _STALL)
