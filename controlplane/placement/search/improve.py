"""The cheapest plan that can be found, and how near it is to the best: Dantzig and Wolfe's decomposition.

1. Prices: the master program puts a price on GPUs and budgets; at these prices every deployment names its cheapest
   plan, and the sum of their costs bounds any plan's. The next prices lie between the best and the master's (Wentges).
2. A whole plan: of all columns named, one a deployment.
3. Repair: some deployments that meet in the same pools choose anew, the others stay.

Never worse than the plan it starts from, and deterministic for its seed and effort unless a deadline cuts it short.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from controlplane.placement.greedy.chosen import as_chosen
from controlplane.placement.greedy.ladder import Choice, Rung
from controlplane.placement.greedy.solver import solve
from controlplane.placement.plan import PlacementPlan
from controlplane.placement.problem import PlacementProblem
from controlplane.placement.rules.cost import plan_costs, priced
from controlplane.placement.search.batches import Prices
from controlplane.placement.search.columns import Column, column, lawful
from controlplane.placement.search.market import Demanders, column_of
from controlplane.placement.search.master import Master, Relaxed
from controlplane.placement.search.offers import Floats, Offers
from controlplane.placement.search.programs import together


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much to search, in counted work; with ``left_s`` also only while it gives more than 0 seconds.

    rounds:  times that all deployments are priced
    nodes:   of branching, while the whole plan is chosen
    repairs: times that some deployments choose anew
    """

    rounds: int = 30
    nodes: int = 500
    repairs: int = 60
    left_s: Callable[[], float] | None = None


#: So few deployments are priced exactly from the first round on; so many more integer programs a round are solved.
_FEW = 12

#: So many deployments choose anew together.
_TOGETHER = 8

#: Pricing ends where bound and master's value are this near.
_CLOSED = 2e-4

#: In the first rounds prices are far off: tables are coarse then, and no integer program is solved.
_COARSE_ROUNDS = 4

#: How much of the best prices goes into the next ones.
_KEEP = 0.5

#: Of what the linear answer takes whole, so much is chosen anew: first little, more if that leaves no way, then all,
#: beginning with what was found. Of so few deployments at once.
_FREED = (0.1, 0.3, 0.6, 1.0)
_WHOLE_AT_ONCE = 200

#: So many times prices, choice and repair take turns, the first time with half of all pricing.
_TURNS = 5


def improve(
    problem: PlacementProblem, *, start: PlacementPlan | None, effort: Effort, seed: int
) -> PlacementPlan:
    """A plan no dearer than ``start`` (None: the greedy one), with a proven lower bound and scarcity prices.

    What ``start`` keeps of each deployment's wishes is kept.
    """
    begun = priced(problem, solve(problem) if start is None else start)
    search = _Search(problem, begun, effort, np.random.default_rng(seed))
    if not search.chosen:
        return begun
    search.run()
    return search.plan()


@dataclass(slots=True)
class _Clock:
    """The time limit, if there is one, and when the present step has to end."""

    left_s: Callable[[], float] | None
    end_s: float = 0.0

    def until(self, share: float) -> None:
        """Let the next step take this share of what is left."""
        self.end_s = 0.0 if self.left_s is None else self.left_s() * (1 - share)

    @property
    def seconds(self) -> float:
        """What the step has left."""
        return 1e6 if self.left_s is None else max(0.0, self.left_s() - self.end_s)

    def late(self) -> bool:
        """Whether the step has to end."""
        return self.seconds <= 0


@dataclass(slots=True)
class _Search:
    problem: PlacementProblem
    start: PlacementPlan
    effort: Effort
    rng: np.random.Generator
    offers: Offers = field(init=False)
    demanders: Demanders = field(init=False)
    master: Master = field(init=False)
    clock: _Clock = field(init=False)
    chosen: list[int] = field(init=False)
    bound: float = -math.inf
    center: Prices | None = None
    relaxed: Relaxed | None = None
    rounds: int = 0
    pure: bool = False
    fine: bool = False
    done: bool = False

    def __post_init__(self) -> None:
        costs = plan_costs(self.problem, self.start)
        self.offers = Offers(self.problem)
        self.demanders = Demanders(self.offers, self.start.deployments)
        self.master = Master(self.offers, self.demanders.numbers)
        self.clock = _Clock(self.effort.left_s)
        begun = []
        for number in self.demanders.numbers:
            entry = self.start.deployments[number]
            begun.append(column_of(self.offers, number, entry, costs[entry.deployment_id]))
        self.master.add(begun)
        self.chosen = list(range(len(begun)))

    def run(self) -> None:
        """Prices first, then choice, repair and better prices in turn, until effort or time ends or nothing is open."""
        first, rest = self.effort.rounds - self.effort.rounds // 2, self.effort.rounds // 2
        self.find_prices(first, share=0.5)
        self.choose(share=0.4)
        if len(self.chosen) <= _FEW:
            self.clock.until(1.0)
            self._anew({self._number(index) for index in self.chosen})
            self._prove()
            return
        for turn in range(1, _TURNS):
            part = 1 / (_TURNS - turn)
            if not self.done:
                self.find_prices(rest // (_TURNS - 1), share=0.35 * part)
                self.choose(share=0.55 * part)
            self.repair(self.effort.repairs // (_TURNS - 1), share=part if self.done else 0.5 * part)

    def find_prices(self, rounds: int, *, share: float) -> None:
        """Price all deployments, again and again; the best bound and the columns remain."""
        self.clock.until(share)
        count = len(self.demanders.numbers)
        self.fine = self.fine or count <= _FEW
        for turn in range(rounds):
            self.relaxed = self.master.relax()
            if self.relaxed is None or (self.rounds and self.clock.late()):
                break
            self.fine = self.fine or self.rounds >= _COARSE_ROUNDS
            prices = self._next_prices(self.relaxed.prices, 0.0 if self.pure else _KEEP)
            programs = _FEW + count // (12 if turn < rounds - 1 else 1) if self.fine else 0
            fresh = self._named(prices, self.relaxed, programs)
            self.rounds += 1
            if self.relaxed.over and (not fresh or turn % 4 == 3):
                self.master.forbid_more()
            elif self.fine and (self._is_closed(self.relaxed) or (self.pure and not fresh)):
                self.done = True
                break
            self.pure, self.fine = not fresh, self.fine or not fresh
        self.relaxed = self.master.relax()

    def _named(self, prices: Prices, answer: Relaxed, programs: int) -> int:
        """Let all deployments name their cheapest plans: how many of them are new."""
        worth = dict(zip(self.demanders.numbers, answer.worth, strict=True))
        found = self.demanders.price(prices, programs=programs, worth=worth, late=self.clock.late)
        bound = sum(found.bounds.values()) - self.master.constant(prices)
        if bound > self.bound:
            self.bound, self.center = bound, prices
        if self.fine:
            self.demanders.refine(found)
        return self.master.add(found.columns)

    def _is_closed(self, answer: Relaxed) -> bool:
        return answer.value - self.bound <= _CLOSED * abs(answer.value)

    def _next_prices(self, named: Prices, keep: float) -> Prices:
        if self.center is None:
            return self.master.guess()

        def between(old: Floats, new: Floats) -> Floats:
            mixed: Floats = keep * old + (1 - keep) * new
            return mixed

        return Prices(
            used=between(self.center.used, named.used),
            scarce=between(self.center.scarce, named.scarce),
            budget=between(self.center.budget, named.budget),
        )

    def choose(self, *, share: float) -> None:
        """Of the columns that could be in the best plan, one a deployment."""
        self.clock.until(share)
        if self.relaxed is None:
            return
        reduced = self.master.reduced(self.relaxed)
        most = np.sort(reduced)[min(len(reduced) - 1, 6 * len(self.demanders.numbers))]
        chosen = set(self.chosen)
        open_ = [index for index in range(len(reduced)) if reduced[index] <= most or index in chosen]
        found = len(self.chosen) <= _WHOLE_AT_ONCE
        for freed in _FREED:
            if found and freed < 1:
                continue
            settled = self._settled(self.relaxed, freed)
            numbers = {self._number(index) for index in settled}
            free = [index for index in open_ if self._number(index) not in numbers]
            found = self._try(free, settled, share=0.5 if freed < 1 else 1.0)

    def _settled(self, answer: Relaxed, freed: float) -> list[int]:
        """Columns that the linear answer takes whole, but for a share ``freed`` of them, by chance."""
        whole = [int(index) for index in np.flatnonzero(answer.shares > 1 - 1e-6)]
        keep = self.rng.random(len(whole)) >= freed
        return [index for index, kept in zip(whole, keep, strict=True) if kept]

    def repair(self, times: int, *, share: float) -> None:
        """Deployments that meet in the same pools choose anew together, in the room that all others leave."""
        self.clock.until(share)
        for _ in range(times):
            if self.clock.late():
                break
            self._anew(self._neighbours(min(_TOGETHER, len(self.chosen))))

    def _prove(self) -> None:
        """A bound on all plans together, where nobody gives up a wish but who did in the beginning."""
        if any(len(offers) > 1 or not len(offers[0].pools) for offers in self.demanders.by_number.values()):
            return
        bound, _ = together(
            self.offers,
            self.demanders.every(),
            self.master.room(()),
            gap=1e-4,
            nodes=self.effort.nodes,
            time_s=self.clock.seconds,
            strict=False,
        )
        self.bound = max(self.bound, min(bound, *self.demanders.floor.values()))

    def _anew(self, numbers: set[int]) -> None:
        offers = {
            index: offer
            for index in self.chosen
            if self._number(index) in numbers
            and (offer := self.demanders.offer_of(self.master.columns[index])) is not None
        }
        others = [index for index in self.chosen if index not in offers]
        found = list(offers.values())
        if not found:
            return
        _, plans = together(
            self.offers,
            found,
            self.master.room(others),
            gap=1e-4,
            nodes=self.effort.nodes,
            time_s=self.clock.seconds,
        )
        if plans is None or not all(lawful(offer, *plan) for offer, plan in zip(found, plans, strict=True)):
            return
        columns = [column(self.offers, offer, *plan) for offer, plan in zip(found, plans, strict=True)]
        self.master.add(columns)
        chosen = sorted([*others, *(self.master.position(one) for one in columns)])
        if self.master.value(chosen) < self.master.value(self.chosen) - 1 and self.master.packs(chosen):
            self.chosen = chosen

    def _number(self, index: int) -> int:
        return self.master.columns[index].number

    def _neighbours(self, count: int) -> set[int]:
        """Some that share a pool, and some at random."""
        chosen = {self._number(index): self.master.columns[index] for index in self.chosen}
        numbers = sorted(chosen)
        first = int(self.rng.choice(numbers))
        pools = {pool for pool, _ in chosen[first].replicas}
        near = [number for number in numbers if pools & {pool for pool, _ in chosen[number].replicas}]
        picked = {first, *map(int, self.rng.permutation(near)[: count // 2])}
        for number in map(int, self.rng.permutation(numbers)):
            if len(picked) == count:
                break
            picked.add(number)
        return picked

    def _try(self, free: list[int], settled: list[int], *, share: float) -> bool:
        """Whether some of the columns ``free`` go well with those that are settled; a better plan is taken."""
        if not free or self.clock.late():
            return False
        found = self.master.whole(
            free,
            settled or self.chosen,
            gap=2e-4,
            nodes=self.effort.nodes,
            time_s=self.clock.seconds * share,
        )
        if found is None or not self.master.packs(found):
            return False
        if self.master.value(found) < self.master.value(self.chosen) - 1:
            self.chosen = sorted(found)
        return True

    def plan(self) -> PlacementPlan:
        """What was chosen, written as a plan; the start where that is no dearer."""
        choices = {
            self.start.deployments[number].deployment_id: self._choice(self.master.columns[index])
            for index in self.chosen
            if (number := self._number(index)) >= 0 and index >= len(self.demanders.numbers)
        }
        plan = as_chosen(self.problem, self.start, choices) if choices else self.start
        if (plan.objective_micro_usd_per_h or 0) > (self.start.objective_micro_usd_per_h or 0):
            plan = self.start
        bound = None
        if math.isfinite(self.bound):
            slack = 1e-9 * abs(self.bound) + len(self.problem.deployments)
            bound = max(0, math.floor(self.bound - slack))
            bound = min(bound, plan.objective_micro_usd_per_h or 0)
        return replace(plan, lower_bound_micro_usd_per_h=bound, gpu_micro_usd_per_h_by_pool=self._scarcity())

    def _choice(self, column: Column) -> Choice:
        pools = self.problem.pools
        serving: dict[str, int] = {}
        standby: dict[str, int] = {}
        for (pool, aside), replicas in column.replicas.items():
            (standby if aside else serving)[pools[pool].pool_id] = replicas
        rung = Rung(level=column.level or "none", near=not column.far)
        return Choice(serving=serving, standby=standby, rung=rung, whole=True)

    def _scarcity(self) -> Mapping[str, int]:
        """What a GPU is worth beyond its rent."""
        prices = self.center
        if prices is None:
            return {}
        worth = prices.scarce.copy()
        partly = self.master.partly
        worth[partly] += prices.used[partly]
        return {
            pool.pool_id: round(price)
            for pool, price in zip(self.problem.pools, worth, strict=True)
            if round(price) > 0
        }
