"""A cell: all is well, one or two faults begin, last a few seconds, end; then all is well again."""

import asyncio
from dataclasses import dataclass, field
from itertools import combinations
from random import Random
from time import monotonic

from tests.faults.matrix.clients import Load
from tests.faults.matrix.faults import ALONE, CATALOGUE, Fault, Maker, Scene
from tests.faults.matrix.recorder import (
    Allowed,
    Figures,
    Findings,
    Recorder,
    judge_cell,
    outside_residency,
    turns,
    two_serving,
)
from tests.faults.matrix.world import ACTIVE_PASSIVE, EU, World
from tests.support.waiting import eventually_async
from workloadplane.health.domain import RampPolicy

#: Who was ejected again and again stays so for the longest hold, and then climbs the ramp.
_SETTLES_WITHIN_S = RampPolicy().ejected_s_max + 30.0
_ENDS_WITHIN_S = 60.0


@dataclass
class Cell:
    """What happened in one.

    settled_s:  from the end of the faults until all was as before
    waited_for: what was not as before, and for how long
    """

    name: str
    figures: Figures = field(default_factory=Figures)
    findings: Findings = field(default_factory=Findings)
    settled_s: float = 0.0
    lag_s: float = 0.0
    waited_for: dict[str, float] = field(default_factory=dict)


@dataclass
class Matrix:
    """All cells, and what was found over all of them. ``requests``: of clients; ``logged``: lines of gateways."""

    cells: list[Cell] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)
    requests: int = 0
    logged: int = 0
    turned: int = 0
    moves: int = 0
    left_out: list[str] = field(default_factory=list)


def pairs(rng: Random) -> list[tuple[Maker, Maker]]:
    """Each two kinds meet once, in a random order; of each kind each member comes in turn."""
    order = {kind: rng.sample(makers, len(makers)) for kind, makers in CATALOGUE.items()}
    used = dict.fromkeys(order, 0)
    chosen = []
    for one, other in rng.sample(
        list(combinations(CATALOGUE, 2)), len(CATALOGUE) * (len(CATALOGUE) - 1) // 2
    ):
        makers = []
        for kind in (one, other):
            makers.append(order[kind][used[kind] % len(order[kind])])
            used[kind] += 1
        chosen.append((makers[0], makers[1]))
    return chosen


def singles() -> list[tuple[Maker, ...]]:
    """Every fault by itself."""
    return [(maker,) for makers in (*CATALOGUE.values(), ALONE) for maker in makers]


def is_possible(maker: Maker, world: World) -> bool:
    """Clocks want a compiler, disks the right to mount."""
    if maker in CATALOGUE["clock"]:
        return bool(world.clocks)
    return maker not in CATALOGUE["disk"] or world.has_disks


class Runner:
    """Plays cells, one after the other, under one load."""

    def __init__(self, world: World, load: Load, recorder: Recorder, rng: Random) -> None:
        self._world, self._load, self._recorder, self._rng = world, load, recorder, rng
        self.matrix = Matrix()

    def pair_home(self) -> str:
        """Who served the pair last."""
        for one in reversed(self._load.asked[-500:]):
            if one.deployment == ACTIVE_PASSIVE and one.attempts and one.last.end == "whole":
                return self._world.clusters_of.get(one.last.replica_id, EU)
        return EU

    async def settle(self) -> None:
        """Wait until everybody is served."""
        await eventually_async(self._all_served, within_s=_SETTLES_WITHIN_S, what="everybody is served")

    async def play(self, makers: tuple[Maker, ...]) -> Cell | None:
        """One cell; None where this machine can't make one of its faults."""
        if not all(is_possible(maker, self._world) for maker in makers):
            self.matrix.left_out.append(" and ".join(maker.__name__ for maker in makers))
            return None
        await asyncio.to_thread(self._world.replicas)  # who runs where
        scene = Scene(self._world, self._rng, self.pair_home(), is_pair=len(makers) > 1)
        for maker in makers:
            scene.taken.append(maker(scene))
        faults = scene.taken
        cell = Cell(" + ".join(fault.name for fault in faults))
        self._load.lag_s = 0.0
        first = len(self._load.asked)
        await asyncio.sleep(0.3)
        began_s = monotonic()
        await self._hold(faults)
        try:
            cell.settled_s = await self._world.settle(_SETTLES_WITHIN_S, cell.waited_for)
            await eventually_async(
                self._all_served, within_s=_SETTLES_WITHIN_S, what="everybody is served again"
            )
        except AssertionError as error:
            cell.findings.unsettled.append(str(error))
        await self._judge(cell, faults, first, began_s)
        self.matrix.cells.append(cell)
        self.matrix.findings.add(cell.findings)
        return cell

    def _all_served(self) -> bool:
        """Whether each deployment was served lately, and nothing has failed."""
        recent = [
            one for one in self._load.asked[-200:] if one.attempts and one.last.ended_s > monotonic() - 0.7
        ]
        served = {one.deployment for one in recent if one.last.end == "whole"}
        return served == set(self._load.deployments) and not any(one.last.failed for one in recent)

    async def _hold(self, faults: list[Fault]) -> None:
        put: list[Fault] = []
        try:
            for fault in faults:
                put.append(fault)
                await fault.put()
            await asyncio.sleep(max(fault.hold_s for fault in faults))
        finally:
            for fault in reversed(put):
                await fault.end()

    async def _judge(self, cell: Cell, faults: list[Fault], first: int, began_s: float) -> None:
        asked = self._load.asked[first:]
        await eventually_async(
            lambda: all(one.is_over for one in asked), within_s=_ENDS_WITHIN_S, what="an end of all requests"
        )
        allowed = Allowed(
            may_refuse=frozenset().union(*(fault.may_refuse for fault in faults)),
            doors=frozenset().union(*(fault.doors for fault in faults)),
        )
        cell.figures, found = judge_cell(asked, allowed, began_s)
        await asyncio.to_thread(self._world.replicas)
        found.outside += outside_residency(asked, self._world.clusters_of)
        cell.findings.add(found)
        cell.lag_s = self._load.lag_s

    async def finish(self) -> Matrix:
        """Judge what only all of it shows."""
        await asyncio.to_thread(self._recorder.read_access_logs)
        chain = turns(self._load.asked, self._world.clusters_of)
        self.matrix.moves, self.matrix.turned = len(self._recorder.moves), max(0, len(chain) - 1)
        self._recorder.findings.two_serving += two_serving(chain, len(self._recorder.moves))
        self.matrix.findings.add(self._recorder.findings)
        self.matrix.requests, self.matrix.logged = len(self._load.asked), self._recorder.logged
        return self.matrix
