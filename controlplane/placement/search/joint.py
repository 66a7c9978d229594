"""Several deployments in one program with whole numbers, each with all that it could do, in the room they share.

What a deployment could do is said in one of two ways. Either its *ways* are listed (``ways.py``), one column each: all
that matter, where they are few. Or its offers stand there as rows (``blocks.py``). Alone, the linear bound of such rows
is far below what whole replicas can reach. So they are told what prices have shown: at prices that were once tried, no
deployment costs less than it was found to (``Proven``). With these the program's first bound is that of the
decomposition.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from controlplane.placement.search.batches import Prices
from controlplane.placement.search.blocks import Block
from controlplane.placement.search.columns import Column, column, lawful, paid
from controlplane.placement.search.highs import Model, has_solution, is_infeasible, silent
from controlplane.placement.search.offers import Bools, Floats, Ints, Offer, Offers
from controlplane.placement.search.ways import Ways

#: Money is counted in dollars: HiGHS' tolerances are made for such numbers.
_MICRO = 1e-6

#: By so much a proven bound is lowered, as a part of it, so that rounding excludes nothing.
_SAFE = 1e-7

#: What a choice is worth to the bound is tried so many times before it is believed: half of what HiGHS would.
_TRIALS = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Party:
    """A deployment and all that it could do, as ``offers`` or as ``ways``, and columns that are known besides.

    ``floor``: anything else costs so much at least (infinite: there is nothing).
    """

    number: int
    offers: Sequence[Offer] = ()
    ways: Sequence[Ways] = ()
    known: Sequence[Column] = ()
    floor: float = np.inf


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Room:
    """What several deployments may share: GPUs by pool, those of them that are reserved, and budgets."""

    gpus: Floats
    reserved_gpus: Floats
    budget: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Proven:
    """At these prices a deployment (by number) costs so much at least, whatever it does: all of them ``bound``."""

    bound: float
    prices: Prices
    bounds: Mapping[int, float]


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """``bound``: no plan of all costs less. ``columns`` by party (None: no plan of it); None: none was found."""

    bound: float
    columns: Sequence[Column | None] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When to be content: ``gap_micro_usd_per_h`` between plan and bound, so many nodes, so many seconds.

    most_micro_usd_per_h: plans that cost more are not looked for, nor is it shown which of them costs least
    """

    gap_micro_usd_per_h: float
    most_micro_usd_per_h: float = np.inf
    nodes: int
    time_s: float


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """One kind of what a party could do, from column ``first`` on. ``chosen``: the column that takes a block."""

    party: int
    source: Block | Ways | Column | None
    first: int
    chosen: int | None
    fixed: float


@dataclass(slots=True, eq=False)
class _Rows:
    """Lines of the program by pool and project, while they are put together; ``freed``: by (party, pool)."""

    gpus: dict[int, dict[int, float]] = field(default_factory=dict)
    rent: dict[int, dict[int, float]] = field(default_factory=dict)
    money: dict[int, dict[int, float]] = field(default_factory=dict)
    freed: dict[tuple[int, int], float] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Joint:
    """The program of some parties.

    strict: count what cannot be said exactly (room freed by outgoing replicas, budgets on pools reserved in part) on
        the safe side, so that plans fit; otherwise on the other, so that the bound holds
    """

    offers: Offers
    parties: Sequence[Party]
    room: Room
    strict: bool
    model: Model = field(default_factory=Model)
    parts: list[_Part] = field(default_factory=list)
    constant: float = 0.0

    def __post_init__(self) -> None:
        for place, party in enumerate(self.parties):
            self._enter(place, party)
        self._share()

    def _enter(self, place: int, party: Party) -> None:
        alone = len(party.offers) == 1 and not party.ways and not party.known and not np.isfinite(party.floor)
        selectors: list[int] = []
        for offer in party.offers:
            block = Block(offer, self.offers.pools)
            fixed = offer.fixed * _MICRO
            chosen = None if alone else self.model.column(fixed, upper=1.0)
            if chosen is None:
                self.constant += fixed
            else:
                selectors.append(chosen)
            first = block.enter(self.model, block.cost(np.zeros(block.count)) * _MICRO, chosen)
            self.parts.append(_Part(place, block, first, chosen, fixed))
        for found in party.ways:
            count = len(found.own)
            first = self.model.columns(found.own * _MICRO, np.ones(count), np.ones(count, dtype=bool))
            selectors.extend(range(first, first + count))
            self.parts.append(_Part(place, found, first, None, 0.0))
        for one in party.known:
            selectors.append(self.model.column(one.cost * _MICRO, upper=1.0))
            self.parts.append(_Part(place, one, selectors[-1], None, 0.0))
        if np.isfinite(party.floor):
            selectors.append(self.model.column(party.floor * _MICRO, upper=1.0))
            self.parts.append(_Part(place, None, selectors[-1], None, 0.0))
        if selectors:
            self.model.row(dict.fromkeys(selectors, 1.0), low=1.0, high=1.0)

    def _share(self) -> None:
        """Rows over all parts: GPUs, rent beyond reservations, budgets."""
        rows = _Rows()
        for part in self.parts:
            if isinstance(part.source, Block):
                self._share_block(rows, part, part.source)
            elif isinstance(part.source, Ways):
                self._share_ways(rows, part, part.source)
            elif isinstance(part.source, Column):
                self._share_column(rows, part, part.source)
        room = self.room.gpus.copy()
        for (_, pool), more in rows.freed.items():
            room[pool] += 0.0 if self.strict else more
        for pool, line in rows.gpus.items():
            self.model.row(line, high=float(room[pool]))
        for pool, line in rows.rent.items():
            price = float(self.offers.pools.rent_micro_usd_per_gpu_h[pool]) * _MICRO
            beyond = self.model.column(price, whole=False)
            self.model.row({**line, beyond: -1.0}, high=float(self.room.reserved_gpus[pool]))
        for project, line in rows.money.items():
            self.model.row(line, high=float(self.room.budget[project]) * _MICRO)

    def _project(self, part: _Part) -> int:
        deployment = self.offers.problem.deployments[self.parties[part.party].number]
        return self.offers.project.get(deployment.project_id, -1)

    def _share_block(self, rows: _Rows, part: _Part, block: Block) -> None:
        offer, project = block.offer, self._project(part)
        for position, pool in enumerate(map(int, offer.pools)):
            size = float(offer.room_gpus[position])
            rows.freed[part.party, pool] = float(offer.freed[position]) * size
            price = offer.promised[position] if self.strict else offer.budgeted[position]
            for place in block.replicas_at(part.first, position):
                rows.gpus.setdefault(pool, {})[place] = size
                rows.rent.setdefault(pool, {})[place] = float(offer.gpus)
                if project >= 0:
                    rows.money.setdefault(project, {})[place] = float(price) * _MICRO

    def _share_ways(self, rows: _Rows, part: _Part, found: Ways) -> None:
        offer, project = found.offer, self._project(part)
        for position, pool in enumerate(map(int, offer.pools)):
            replicas = found.replicas[:, position]
            beyond = np.maximum(replicas - offer.freed[position], 0) * offer.room_gpus[position]
            for line, amounts in (
                (rows.gpus.setdefault(pool, {}), beyond),
                (rows.rent.setdefault(pool, {}), replicas * float(offer.gpus)),
            ):
                used = np.flatnonzero(amounts)
                line.update(zip((part.first + used).tolist(), amounts[used].tolist(), strict=True))
        if project >= 0:
            money = found.replicas @ (offer.promised if self.strict else offer.budgeted) * _MICRO
            places = range(part.first, part.first + len(money))
            rows.money.setdefault(project, {}).update(zip(places, money.tolist(), strict=True))

    def _share_column(self, rows: _Rows, part: _Part, one: Column) -> None:
        project, money = self._project(part), one.budgeted
        for pool, gpus in one.gpus.items():
            rows.gpus.setdefault(pool, {})[part.first] = one.beyond[pool]
            rows.rent.setdefault(pool, {})[part.first] = gpus
        if not self.strict:
            least = sum(gpus * self.offers.budgeted_per_gpu(pool, min) for pool, gpus in one.gpus.items())
            money = min(money, least)
        if project >= 0:
            rows.money.setdefault(project, {})[part.first] = money * _MICRO

    def tell(self, proven: Proven) -> None:
        """No party whose offers stand there as rows costs less at these prices than was proven."""
        lines: dict[int, dict[int, float]] = {}
        least: dict[int, float] = {}
        for part in self.parts:
            if not self.parties[part.party].offers:
                continue
            line = lines.setdefault(part.party, {})
            number = self.parties[part.party].number
            least.setdefault(part.party, proven.bounds[number] * _MICRO)
            if isinstance(part.source, Block):
                cost = part.source.cost(_unit(self.offers, part.source.offer, proven.prices)) * _MICRO
                used = np.flatnonzero(cost)
                line.update(zip((part.first + used).tolist(), cost[used].tolist(), strict=True))
                if part.chosen is None:
                    least[part.party] -= part.fixed
                else:
                    line[part.chosen] = part.fixed
            elif isinstance(part.source, Column):
                line[part.first] = paid(self.offers, part.source, proven.prices) * _MICRO
            elif part.source is None:
                line[part.first] = self.parties[part.party].floor * _MICRO
        for party, line in lines.items():
            self.model.row(line, low=least[party] - _SAFE * abs(least[party]))

    def solve(self, limits: Limits, heuristics: Mapping[str, bool | float] = MappingProxyType({})) -> Answer:
        """At least cost. ``heuristics``: options of HiGHS'."""
        highs = self.model.passed(
            silent(
                mip_allow_restart=False,  # presolving again at the root takes longer than the rest of the tree
                mip_detect_symmetry=False,
                mip_pscost_minreliable=_TRIALS,
                mip_rel_gap=0.0,
                mip_abs_gap=limits.gap_micro_usd_per_h * _MICRO,
                mip_max_nodes=limits.nodes,
                time_limit=max(1e-3, limits.time_s),
                objective_bound=limits.most_micro_usd_per_h * _MICRO - self.constant,
                **heuristics,
            )
        )
        highs.run()
        if is_infeasible(highs):
            return Answer(limits.most_micro_usd_per_h, None)
        bound = (highs.getInfo().mip_dual_bound + self.constant) / _MICRO
        bound = min(bound, limits.most_micro_usd_per_h)
        if not has_solution(highs):
            return Answer(bound, None)
        return Answer(bound, self._columns(np.array(highs.getSolution().col_value)))

    def _columns(self, values: Floats) -> list[Column | None]:
        found: list[Column | None] = [None] * len(self.parties)
        for part in self.parts:
            source = part.source
            if isinstance(source, Block) and (part.chosen is None or values[part.chosen] > 0.5):
                found[part.party] = self._column(
                    source.offer, *source.plan(values[part.first : part.first + source.columns])
                )
            elif isinstance(source, Ways):
                for way in np.flatnonzero(values[part.first : part.first + len(source.own)] > 0.5):
                    found[part.party] = self._column(source.offer, source.replicas[way], source.standby[way])
            elif isinstance(source, Column) and values[part.first] > 0.5:
                found[part.party] = source
        return found

    def _column(self, offer: Offer, replicas: Ints, standby: Bools) -> Column | None:
        return column(self.offers, offer, replicas, standby) if lawful(offer, replicas, standby) else None


def _unit(offers: Offers, offer: Offer, prices: Prices) -> Floats:
    """What a replica costs on each of the offer's pools."""
    project = offers.project.get(offer.deployment.project_id, -1)
    budget = float(prices.budget[project]) if project >= 0 else 0.0
    found: Floats = prices.gpu[offer.pools] * offer.gpus + budget * offer.budgeted
    return found
