"""Several deployments in one program with whole numbers: exact, each with all that it could do, in the room they share.

Alone, such a program's linear bound is far below what whole replicas can reach. What prices have shown is told to it as
rows: at prices that were once tried, no deployment costs less than it was found to (``Proven``). With these its first
bound is that of the decomposition.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from controlplane.placement.search.batches import Prices
from controlplane.placement.search.blocks import Block
from controlplane.placement.search.highs import Model, begin_with, has_solution, is_infeasible, silent
from controlplane.placement.search.offers import Bools, Floats, Ints, Offer, Offers

#: Money is counted in dollars: HiGHS' tolerances are made for such numbers.
_MICRO = 1e-6

#: By so much a proven bound is lowered, as a part of it, so that rounding excludes nothing.
_SAFE = 1e-7


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Party:
    """A deployment and all that it could do; anything else costs ``floor`` at least (infinite: there is nothing)."""

    offers: Sequence[Offer]
    floor: float = np.inf


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Room:
    """What several deployments may share: GPUs by pool, those of them that are reserved, and budgets."""

    gpus: Floats
    reserved_gpus: Floats
    budget: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Proven:
    """At these prices a deployment (by number) costs so much at least, whatever it does."""

    prices: Prices
    bounds: Mapping[int, float]


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """What a party does."""

    offer: Offer
    replicas: Ints
    standby: Bools


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """``bound``: no plan of all costs less. ``taken`` by party, None for what is not said; None: none was found."""

    bound: float
    taken: Sequence[Taken | None] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When to be content: ``gap_micro_usd_per_h`` between plan and bound, so many nodes, so many seconds."""

    gap_micro_usd_per_h: float
    nodes: int
    time_s: float


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """One way of a party: ``first`` column of its block (None: its floor), ``chosen``: the column that takes it."""

    party: int
    block: Block | None
    first: int
    chosen: int | None
    fixed: float


@dataclass(slots=True, eq=False)
class Joint:
    """The program of some parties.

    strict: count what cannot be said exactly (odd sizes, room freed by outgoing replicas, budgets on pools reserved in
        part) on the safe side, so that plans fit; otherwise on the other, so that the bound holds
    """

    offers: Offers
    parties: Sequence[Party]
    room: Room
    strict: bool
    model: Model = field(default_factory=Model)
    parts: list[_Part] = field(default_factory=list)
    constant: float = 0.0

    def __post_init__(self) -> None:
        for number, party in enumerate(self.parties):
            self._enter(number, party)
        self._share()

    @property
    def exact(self) -> bool:
        """Whether strict or not makes no difference."""
        blocks = [part.block for part in self.parts if part.block is not None]
        return all(
            not np.any(block.offer.freed)
            and all(
                self.offers.room_of(block.offer, position) == block.offer.gpus
                for position in range(block.count)
            )
            and (
                block.offer.deployment.project_id not in self.offers.project
                or np.array_equal(block.offer.promised, block.offer.budgeted)
            )
            for block in blocks
        )

    def _enter(self, number: int, party: Party) -> None:
        ways = len(party.offers) + int(np.isfinite(party.floor))
        selectors: dict[int, float] = {}
        for offer in party.offers:
            block = Block(offer, self.offers.pools)
            fixed = offer.fixed * _MICRO
            chosen = None
            if ways > 1:
                chosen = self.model.column(fixed, upper=1.0)
                selectors[chosen] = 1.0
            else:
                self.constant += fixed
            first = block.enter(self.model, block.cost(np.zeros(block.count)) * _MICRO, chosen)
            self.parts.append(_Part(number, block, first, chosen, fixed))
        if np.isfinite(party.floor):
            chosen = self.model.column(party.floor * _MICRO, upper=1.0)
            selectors[chosen] = 1.0
            self.parts.append(_Part(number, None, -1, chosen, party.floor * _MICRO))
        if selectors:
            self.model.row(selectors, low=1.0, high=1.0)

    def _share(self) -> None:
        """Rows over all parts: GPUs, rent beyond reservations, budgets."""
        gpus: dict[int, dict[int, float]] = {}
        rent: dict[int, dict[int, float]] = {}
        money: dict[int, dict[int, float]] = {}
        freed: dict[tuple[int, int], float] = {}
        for part in self.parts:
            if part.block is None:
                continue
            offer = part.block.offer
            project = self.offers.project.get(offer.deployment.project_id, -1)
            for position, pool in enumerate(map(int, offer.pools)):
                freed[part.party, pool] = float(offer.freed[position] * offer.gpus)
                size = self.offers.room_of(offer, position) if self.strict else float(offer.gpus)
                price = offer.promised[position] if self.strict else offer.budgeted[position]
                for column in part.block.replicas_at(part.first, position):
                    gpus.setdefault(pool, {})[column] = size
                    rent.setdefault(pool, {})[column] = float(offer.gpus)
                    if project >= 0:
                        money.setdefault(project, {})[column] = float(price) * _MICRO
        room = self.room.gpus.copy()
        for (_, pool), more in freed.items():
            room[pool] += 0.0 if self.strict else more
        for pool, line in gpus.items():
            self.model.row(line, high=float(room[pool]))
        for pool, line in rent.items():
            price = float(self.offers.pools.rent_micro_usd_per_gpu_h[pool]) * _MICRO
            beyond = self.model.column(price, whole=False)
            self.model.row({**line, beyond: -1.0}, high=float(self.room.reserved_gpus[pool]))
        for project, line in money.items():
            self.model.row(line, high=float(self.room.budget[project]) * _MICRO)

    def tell(self, proven: Proven) -> None:
        """No party costs less at these prices than was proven."""
        lines: dict[int, dict[int, float]] = {}
        least: dict[int, float] = {}
        for part in self.parts:
            line = lines.setdefault(part.party, {})
            number = self.parties[part.party].offers[0].number
            least.setdefault(part.party, proven.bounds[number] * _MICRO)
            if part.chosen is not None:
                line[part.chosen] = part.fixed
            else:
                least[part.party] -= part.fixed
            if part.block is not None:
                cost = part.block.cost(_unit(self.offers, part.block.offer, proven.prices)) * _MICRO
                used = np.flatnonzero(cost)
                line.update(zip((part.first + used).tolist(), cost[used].tolist(), strict=True))
        for party, line in lines.items():
            self.model.row(line, low=least[party] - _SAFE * abs(least[party]))

    def solve(self, limits: Limits, guess: Sequence[Taken | None] | None = None) -> Answer:
        """At least cost, beginning with ``guess`` by party, where there is one for all."""
        highs = self.model.passed(
            silent(
                mip_rel_gap=0.0,
                mip_abs_gap=limits.gap_micro_usd_per_h * _MICRO,
                mip_max_nodes=limits.nodes,
                time_limit=max(1e-3, limits.time_s),
            )
        )
        if guess is not None and all(one is not None for one in guess):
            begin_with(highs, self._guessed([one for one in guess if one is not None]))
        highs.run()
        if is_infeasible(highs):
            return Answer(np.inf, None)
        bound = (highs.getInfo().mip_dual_bound + self.constant) / _MICRO
        if not has_solution(highs):
            return Answer(bound, None)
        return Answer(bound, self._taken(np.array(highs.getSolution().col_value)))

    def _guessed(self, guess: Sequence[Taken]) -> dict[int, float]:
        found: dict[int, float] = {}
        for part in self.parts:
            taken = guess[part.party]
            mine = part.block is not None and part.block.offer is taken.offer
            if part.chosen is not None:
                found[part.chosen] = float(mine)
            if part.block is not None:
                values = part.block.guess(taken.replicas, taken.standby) if mine else part.block.nothing()
                found.update({part.first + place: value for place, value in values.items()})
        return found

    def _taken(self, values: Floats) -> list[Taken | None]:
        found: list[Taken | None] = [None] * len(self.parties)
        for part in self.parts:
            if part.block is not None and (part.chosen is None or values[part.chosen] > 0.5):
                own = values[part.first : part.first + part.block.columns]
                found[part.party] = Taken(part.block.offer, *part.block.plan(own))
        return found


def _unit(offers: Offers, offer: Offer, prices: Prices) -> Floats:
    """What a replica costs on each of the offer's pools."""
    project = offers.project.get(offer.deployment.project_id, -1)
    budget = float(prices.budget[project]) if project >= 0 else 0.0
    found: Floats = prices.gpu[offer.pools] * offer.gpus + budget * offer.budgeted
    return found
