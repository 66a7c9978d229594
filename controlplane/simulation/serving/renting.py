"""Who rents what: the autoscaler says how many replicas are wanted, a renter from which pools."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from controlplane.procurement import BlendPolicy
from controlplane.simulation.serving.cold_start import LaunchTimes
from controlplane.simulation.serving.replicas import Fleet, SimulatedReplica

RentingKind = Literal["in_order", "blend", "placed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Renting:
    """How capacity is rented. ``in_order``: the pools as they are listed; ``blend``: ``controlplane.procurement``'s;
    ``placed``: as placement bounds them.

    blend: its settings; ``replace_s`` is what the world's cold starts take
    """

    kind: RentingKind = "in_order"
    blend: BlendPolicy = field(default_factory=BlendPolicy)


@dataclass(frozen=True, slots=True)
class Turn:
    """What a renter did: replicas launched, with the time at which each will be ready, and those that are to stop."""

    launched: Sequence[tuple[SimulatedReplica, float]] = ()
    stopped: Sequence[SimulatedReplica] = ()


class Renter(Protocol):
    """Single owner: the mode that plays it."""

    @property
    def reasons(self) -> list[str]:
        """Why it was rented so, the last of them."""
        ...

    @property
    def spare(self) -> int:
        """Replicas that it keeps beyond those that are wanted."""
        ...

    def begin(self, count: int) -> Sequence[tuple[SimulatedReplica, float]]:
        """The world's beginning: so many are there at once, each with what its launch would have taken."""
        ...

    def turn_to(self, wanted: int, now_s: float) -> Turn:
        """So many are wanted now."""
        ...


class InOrder:
    """The pools in their order: the first one that has a place."""

    def __init__(self, fleet: Fleet, launches: LaunchTimes) -> None:
        self._fleet, self._launches = fleet, launches

    @property
    def reasons(self) -> list[str]:
        """It has none but the order."""
        return []

    @property
    def spare(self) -> int:
        """None."""
        return 0

    def begin(self, count: int) -> Sequence[tuple[SimulatedReplica, float]]:
        return self.turn_to(count, 0.0).launched

    def turn_to(self, wanted: int, now_s: float) -> Turn:
        there = sum(1 for _ in self._fleet.serving()) + sum(1 for _ in self._fleet.starting())
        launched = []
        for _ in range(wanted - there):
            replica = self._launch(now_s)
            if replica is None:
                break
            launched.append((replica, now_s + self._launches.next().ready_s))
        return Turn(launched, self._fleet.to_stop(there - wanted, self._fleet.supply.pools))

    def _launch(self, now_s: float) -> SimulatedReplica | None:
        for pool in self._fleet.supply.pools:
            if self._fleet.supply.is_full(pool):
                continue
            replica = self._fleet.launch(pool, now_s)
            if replica is not None:
                return replica
        return None
