"""Small linear and integer programs, solved by HiGHS: one deployment at given prices, or several in given room.

Imported where solving begins: HiGHS takes a while to load.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np

from controlplane.placement.search.batches import Prices
from controlplane.placement.search.blocks import Block
from controlplane.placement.search.offers import Bools, Floats, Ints, Offer, Offers, Pools

#: In programs of several deployments money is counted in dollars: HiGHS' tolerances are made for such numbers.
_MICRO = 1e-6


#: Of HiGHS' ways those that cost more than they give on programs of so few columns: half the time is spent without.
_PLAIN = {
    "mip_detect_symmetry": False,
    "mip_heuristic_effort": 0.0,
    "mip_heuristic_run_feasibility_jump": False,
    "mip_allow_restart": False,
}


def solver() -> Any:
    """A silent HiGHS on one thread: all of a process must have as many."""
    highs: Any = highspy.Highs()  # type: ignore[no-untyped-call]
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("threads", 1)
    return highs


@dataclass(frozen=True, slots=True, eq=False)
class Solved:
    """``bound``: no plan costs less. ``replicas`` and which ``standby``; None where there is no plan."""

    bound: float
    replicas: Ints | None
    standby: Bools | None = None


class Program:
    """One offer at prices. In whole numbers it is exact, but for room freed by its own outgoing replicas (errs low)."""

    def __init__(self, offer: Offer, pools: Pools) -> None:
        self.block = Block(offer, pools)
        self._linear = solver()
        self._linear.passModel(_model([self.block], []))
        self._whole: Any = None

    def solve(
        self, prices: Prices, budget: float, *, whole: bool, gap: float = 1e-4, nodes: int = 2000
    ) -> Solved:
        """The cheapest plan at these prices, in ``whole`` replicas or rounded up from parts of them.

        ``budget`` is the price of a micro-dollar of its project's.
        """
        offer = self.block.offer
        used = prices.used[offer.pools] * offer.gpus + budget * offer.budgeted
        scarce = prices.scarce[offer.pools] * offer.gpus
        cost = self.block.cost(used + scarce)
        fixed = offer.fixed - float(np.dot(scarce, offer.freed))
        highs = self._integer() if whole else self._linear
        highs.changeColsCost(len(cost), np.arange(len(cost), dtype=np.int32), cost)
        if whole:
            highs.setOptionValue("mip_rel_gap", gap)
            highs.setOptionValue("mip_max_nodes", nodes)
        highs.run()
        status, info = highs.getModelStatus(), highs.getInfo()
        if status == highspy.HighsModelStatus.kInfeasible:
            return Solved(np.inf, None)
        if not whole and status != highspy.HighsModelStatus.kOptimal:
            return Solved(-np.inf, None)
        bound = (info.mip_dual_bound if whole else info.objective_function_value) + fixed
        if info.primal_solution_status != 2:
            return Solved(bound, None)
        return Solved(bound, *self.block.plan(np.array(highs.getSolution().col_value)))

    def _integer(self) -> Any:
        if self._whole is None:
            self._whole = solver()
            for option, value in _PLAIN.items():
                self._whole.setOptionValue(option, value)
            self._whole.passModel(_model([self.block], [], whole=True))
        return self._whole


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Room:
    """What several deployments may share: GPUs by pool, those of them that are reserved, and budgets."""

    gpus: Floats
    reserved_gpus: Floats
    budget: Floats


def together(
    offers: Offers,
    found: Sequence[Offer],
    room: Room,
    *,
    gap: float,
    nodes: int,
    time_s: float,
    strict: bool = True,
) -> tuple[float, list[tuple[Ints, Bools]] | None]:
    """(bound, plans) of several deployments in the room that is left for them, as cheap as can be; None: none found.

    strict: count what cannot be said exactly (odd sizes, room freed by outgoing replicas, budgets on pools reserved in
        part) on the safe side, so that the plans fit; otherwise on the other, so that the bound holds
    """
    blocks = [Block(offer, offers.pools) for offer in found]
    highs = solver()
    highs.passModel(_model(blocks, _shared(offers, blocks, room, strict=strict), whole=True, offers=offers))
    highs.setOptionValue("mip_rel_gap", gap)
    highs.setOptionValue("mip_max_nodes", nodes)
    highs.setOptionValue("time_limit", time_s)
    highs.run()
    info = highs.getInfo()
    bound = info.mip_dual_bound / _MICRO + sum(offer.fixed for offer in found)
    if highs.getModelStatus() == highspy.HighsModelStatus.kInfeasible:
        return np.inf, None
    if info.primal_solution_status != 2:
        return bound, None
    values = np.array(highs.getSolution().col_value)
    plans, start = [], 0
    for block in blocks:
        plans.append(block.plan(values[start : start + block.columns]))
        start += block.columns
    return bound, plans


_Row = tuple[dict[int, float], float]


def _shared(offers: Offers, blocks: Sequence[Block], room: Room, *, strict: bool) -> list[_Row]:
    """Rows over all blocks' columns: GPUs, rent beyond reservations (in columns of its own, behind all), budgets."""
    gpus: dict[int, dict[int, float]] = {}
    rent: dict[int, dict[int, float]] = {}
    money: dict[int, dict[int, float]] = {}
    start = 0
    for block in blocks:
        offer = block.offer
        project = offers.project.get(offer.deployment.project_id, -1)
        for position, pool in enumerate(offer.pools):
            for column in (start + position, start + block.count + position):
                size = offers.room_of(offer, position) if strict else float(offer.gpus)
                gpus.setdefault(int(pool), {})[column] = size
                rent.setdefault(int(pool), {})[column] = float(offer.gpus)
                if project >= 0:
                    price = offer.promised[position] if strict else offer.budgeted[position]
                    money.setdefault(project, {})[column] = float(price) * _MICRO
        start += block.columns
    freed = np.zeros(len(room.gpus))
    for block in blocks if not strict else ():
        freed[block.offer.pools] += block.offer.freed * block.offer.gpus
    rows: list[_Row] = [(line, float(room.gpus[pool] + freed[pool])) for pool, line in gpus.items()]
    for number, (pool, line) in enumerate(rent.items()):
        rows.append(({**line, start + number: -1.0}, float(room.reserved_gpus[pool])))
    rows.extend((line, float(room.budget[project]) * _MICRO) for project, line in money.items())
    return rows


def _model(
    blocks: Sequence[Block], shared: Sequence[_Row], *, whole: bool = False, offers: Offers | None = None
) -> Any:
    """Blocks side by side; with ``offers`` rent is paid in columns behind them, one a pool in order of appearance."""
    costs, upper, kinds = [], [], []
    entries: list[tuple[Ints, Ints, Floats]] = []
    low, high = [], []
    row = column = 0
    for block in blocks:
        costs.append(block.cost(np.zeros(block.count)) * (1.0 if offers is None else _MICRO))
        upper.append(block.upper)
        kinds.append(block.whole)
        at_row, at_column = np.nonzero(block.lines)
        entries.append((at_row + row, at_column + column, block.lines[at_row, at_column]))
        low.append(block.low)
        high.append(block.high)
        row += len(block.lines)
        column += block.columns
    if offers is not None:
        pools = list(dict.fromkeys(int(pool) for block in blocks for pool in block.offer.pools))
        costs.append(offers.pools.rent_micro_usd_per_gpu_h[pools] * _MICRO)
        upper.append(np.full(len(pools), np.inf))
        kinds.append(np.zeros(len(pools), dtype=bool))
        column += len(pools)
    for line, most in shared:
        entries.append((np.full(len(line), row), np.array(list(line)), np.array(list(line.values()))))
        low.append(np.array([-np.inf]))
        high.append(np.array([most]))
        row += 1
    rows, columns, values = (np.concatenate(part) for part in zip(*entries, strict=True))
    order = np.argsort(rows, kind="stable")
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = column, row
    model.col_cost_, model.col_lower_, model.col_upper_ = (
        np.concatenate(costs),
        np.zeros(column),
        np.concatenate(upper),
    )
    model.row_lower_, model.row_upper_ = np.concatenate(low), np.concatenate(high)
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.start_ = np.searchsorted(rows[order], np.arange(row + 1)).astype(np.int32)
    model.a_matrix_.index_ = columns[order].astype(np.int32)
    model.a_matrix_.value_ = values[order]
    if whole:
        integer, part = highspy.HighsVarType.kInteger, highspy.HighsVarType.kContinuous
        model.integrality_ = [integer if one else part for one in np.concatenate(kinds)]
    return model
