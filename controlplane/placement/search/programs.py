"""One deployment at given prices as a small program, linear or in whole numbers."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from controlplane.placement.search.batches import Prices
from controlplane.placement.search.blocks import Block
from controlplane.placement.search.highs import (
    NO_HEURISTICS,
    Model,
    has_solution,
    is_infeasible,
    is_optimal,
    silent,
)
from controlplane.placement.search.offers import Bools, Floats, Ints, Offer, Pools

#: Of HiGHS' ways those that cost more than they give on programs of so few columns: a quarter of the time is spent
#: without them.
_PLAIN = {**NO_HEURISTICS, "mip_detect_symmetry": False, "mip_allow_restart": False}

#: The cheapest is found as nearly as this, as a part of what it costs.
_NEAR = 1e-4


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
        self._linear = self._model().passed(silent(), whole=False)
        self._whole: Any = None

    def solve(
        self, prices: Prices, budget: float, *, whole: bool, most: float = np.inf, nodes: int = 2000
    ) -> Solved:
        """The cheapest plan at these prices, in ``whole`` replicas or rounded up from parts of them.

        ``budget`` is the price of a micro-dollar of its project's. In whole replicas one that costs less than ``most``
        by more than ``_NEAR`` is looked for: without one that is the bound.
        """
        offer = self.block.offer
        used = prices.used[offer.pools] * offer.gpus + budget * offer.budgeted
        scarce = prices.scarce[offer.pools] * offer.room_gpus
        cost = self.block.cost(used + scarce)
        fixed = offer.fixed - float(np.dot(scarce, offer.freed))
        highs = self._integer() if whole else self._linear
        highs.changeColsCost(len(cost), np.arange(len(cost), dtype=np.int32), cost)
        least = most - _NEAR * abs(most) if whole and np.isfinite(most) else np.inf
        if whole:
            highs.setOptionValue("mip_rel_gap", _NEAR)
            highs.setOptionValue("mip_max_nodes", nodes)
            highs.setOptionValue("objective_bound", least - fixed)
        highs.run()
        if not whole and not (is_optimal(highs) or is_infeasible(highs)):
            highs.setOptionValue("presolve", "off")  # HiGHS 1.16 ends in an error there on some rows near 1
            highs.clearSolver()
            highs.run()
        if is_infeasible(highs):
            return Solved(least, None)
        if not whole and not is_optimal(highs):
            return Solved(-np.inf, None)
        info = highs.getInfo()
        bound = min(least, (info.mip_dual_bound if whole else info.objective_function_value) + fixed)
        if not has_solution(highs):
            return Solved(bound, None)
        return Solved(bound, *self.block.plan(np.array(highs.getSolution().col_value)))

    def relaxed(self, prices: Prices, budget: float) -> tuple[float, Floats] | None:
        """``Block.relaxed`` for what rows are worth in parts of replicas; None where there is no such answer."""
        self.solve(prices, budget, whole=False)
        if not is_optimal(self._linear):
            return None
        duals = np.array(self._linear.getSolution().row_dual)
        return self.block.relaxed(duals, self.block.cost(np.zeros(self.block.count)))

    def _integer(self) -> Any:
        if self._whole is None:
            self._whole = self._model().passed(silent(**_PLAIN))
        return self._whole

    def _model(self) -> Model:
        model = Model()
        self.block.enter(model, self.block.cost(np.zeros(self.block.count)))
        return model
