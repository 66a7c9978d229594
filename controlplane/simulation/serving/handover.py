"""Bounds that move: what a plan gives a deployment in each place, and what serves on until that is ready.

As the control plane does it (``apps.placements``): what a plan adds is made ready before what it takes away may go.
A *lane* is a deployment in a place: a cluster of a fleet, a pool of a world.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controlplane.simulation.serving.batch import IntArray

BoolArray = NDArray[np.bool_]

_COUNTS = (
    "deployment",
    "place",
    "least",
    "most",
    "_to_least",
    "_to_most",
    "_room",
    "_needed",
    "ready",
    "starting",
    "_lost",
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is planned for a deployment in a place. ``room_replicas``: for so many of them room is kept."""

    deployment: int
    place: int
    min_replicas: int
    max_replicas: int
    room_replicas: int


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Replicas of a deployment that still hold their GPUs in a place beyond what it is to have there."""

    deployment: int
    place: int
    replicas: int


class Handover:
    """Single owner: who plays the control plane. New lanes come at the end; none ever goes.

    least, most:     the bounds in force, while a deployment is handed over those of that
    leaves:          what the plan names no more, and still serves
    ready, starting: replicas, as the control plane was told of them
    """

    deployment: IntArray
    place: IntArray
    least: IntArray
    most: IntArray
    _to_least: IntArray
    _to_most: IntArray
    _room: IntArray
    _needed: IntArray
    ready: IntArray
    starting: IntArray
    _lost: IntArray

    def __init__(self, deployments: int) -> None:
        """Of so many deployments, none of which has a lane."""
        for name in _COUNTS:
            setattr(self, name, np.zeros(0, dtype=np.int64))
        self.leaves: BoolArray = np.zeros(0, dtype=bool)
        self._handed_over: BoolArray = np.zeros(deployments, dtype=bool)
        self._numbers: dict[tuple[int, int], int] = {}

    def number(self, deployment: int, place: int) -> int:
        """Which lane that is, bounded before. Raises KeyError."""
        return self._numbers[deployment, place]

    def bound(self, bounds: Iterable[Bounds]) -> None:
        """These are what is planned. What serves beyond them serves on until what the plan adds is ready.

        So the control plane hands a deployment over (``handover_replicas`` of an assignment), also from a place that
        was lost: its replicas count as they were told last.
        """
        rows = list(bounds)
        fresh = [row for row in rows if (row.deployment, row.place) not in self._numbers]
        if fresh:
            self.grow(fresh)
        least, most, room = (np.zeros_like(self.least) for _ in range(3))
        for row in rows:
            lane = self._numbers[row.deployment, row.place]
            least[lane], most[lane], room[lane] = row.min_replicas, row.max_replicas, row.room_replicas
        moved = (least != self._to_least) | (most != self._to_most) | (room != self._room)
        grows = self._of_deployment((room > self._room) | ((most > 0) & (self._to_most == 0)))
        touched = self._of_deployment(moved)
        told = self.ready + self._lost
        serves = np.where(told > most, told, np.minimum(told, self.least))
        leaves = touched & (most == 0) & (told > 0)
        shrinks = touched & (most > 0) & (serves > np.maximum(least, room))
        beyond = np.where(leaves, told, np.where(shrinks, serves - room, 0))
        gone = np.bincount(self.deployment, weights=beyond)[self.deployment].astype(np.int64)
        handed = np.where(shrinks, serves, np.minimum(np.minimum(room, most), gone))
        handed = np.where(grows & (most > 0), handed, 0)
        self._lost[moved] = 0
        self._to_least, self._to_most, self._room = least, most, room
        self._needed = np.where(touched, np.maximum(least, np.minimum(handed, room)), self._needed)
        self.least = np.where(touched, np.maximum(least, handed), self.least)
        self.most = np.where(touched, np.where(leaves, self.ready, np.maximum(most, handed)), self.most)
        self.leaves = (self._to_most == 0) & (self.most > 0)
        self._handed_over[self.deployment[touched]] = True
        self.tell(np.flatnonzero(touched))

    def settle(self) -> bool:
        """What a deployment leaves goes when all that stands has ready what it must; whether any did."""
        lacks = np.bincount(self.deployment, weights=(self._to_most > 0) & (self.ready < self._needed))
        made = (self._handed_over & (lacks == 0))[self.deployment]
        if not made.any():
            return False
        self._handed_over[self.deployment[made]] = False
        changed = made & ((self.least != self._to_least) | (self.most != self._to_most))
        self.least = np.where(made, self._to_least, self.least)
        self.most = np.where(made, self._to_most, self.most)
        self.leaves = (self._to_most == 0) & (self.most > 0)
        self.empty(np.flatnonzero(made & (self.most == 0) & (self.ready + self.starting > 0)))
        self.tell(np.flatnonzero(changed))
        return bool(changed.any())

    def outgoing(self) -> Iterator[Outgoing]:
        """What is on its way out, and what serves beyond the room that is planned for it."""
        held = np.where(
            self.leaves, self.ready + self.starting, np.where(self.least > self._room, self.least, 0)
        )
        for lane in np.flatnonzero(held).tolist():
            yield Outgoing(int(self.deployment[lane]), int(self.place[lane]), int(held[lane]))

    def grow(self, fresh: list[Bounds]) -> None:
        """Lanes for these too."""
        count = len(fresh)
        for row in fresh:
            self._numbers[row.deployment, row.place] = len(self._numbers)
        for name in _COUNTS:
            before = getattr(self, name)
            setattr(self, name, np.concatenate((before, np.zeros(count, dtype=before.dtype))))
        self.deployment[-count:] = [row.deployment for row in fresh]
        self.place[-count:] = [row.place for row in fresh]

    def lose(self, gone: BoolArray) -> int:
        """All replicas of these lanes; how many they were."""
        count = int(self.ready[gone].sum() + self.starting[gone].sum())
        self._lost[gone] = self.ready[gone]
        self.ready[gone] = 0
        self.starting[gone] = 0
        return count

    def hear(self, lane: int, ready: int, starting: int) -> None:
        """So many are there."""
        self.ready[lane], self.starting[lane], self._lost[lane] = ready, starting, 0

    def miss(self, lane: int) -> None:
        """Nothing is heard of it: those that were ready are lost, and count as they were told last."""
        if self.ready[lane]:
            self.lose(np.arange(len(self.ready)) == lane)

    def tell(self, lanes: IntArray) -> None:
        """The bounds in force of these have changed: for those who tell agents."""

    def empty(self, lanes: IntArray) -> None:
        """Nothing is to be there any more: for those who hold the replicas themselves."""

    def _of_deployment(self, lanes: BoolArray) -> BoolArray:
        """All lanes of deployments that one of these is of."""
        return np.bincount(self.deployment, weights=lanes)[self.deployment] > 0
