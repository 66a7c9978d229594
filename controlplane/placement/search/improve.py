"""The cheapest plan that can be found, and how near it is to the best: Dantzig and Wolfe's decomposition.

1. Prices: the master program puts a price on GPUs and budgets; at these prices every deployment names its cheapest
   plan, and the sum of their costs bounds any plan's. The next prices lie between the best and the master's (Wentges).
2. A whole plan: of all columns named, one a deployment.
3. Repair: some deployments that meet in the same pools choose anew, the others stay.

Never worse than the plan it starts from, and deterministic for its seed and effort unless a deadline cuts it short.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from controlplane.placement.greedy.chosen import as_chosen
from controlplane.placement.greedy.ladder import Choice, Rung
from controlplane.placement.greedy.solver import solve
from controlplane.placement.plan import PlacementPlan
from controlplane.placement.problem import PlacementProblem
from controlplane.placement.rules.cost import plan_costs, priced
from controlplane.placement.search.bidding import Bidding
from controlplane.placement.search.clock import Clock
from controlplane.placement.search.columns import Column
from controlplane.placement.search.highs import NO_HEURISTICS, NO_NEIGHBOURS
from controlplane.placement.search.joint import Joint, Limits, Party, Proven
from controlplane.placement.search.market import Demanders, column_of
from controlplane.placement.search.master import Master, Relaxed
from controlplane.placement.search.offers import Offers
from controlplane.placement.search.parties import Parties


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


#: So many deployments choose anew together.
_TOGETHER = 8

#: What is known is far beyond what was looked at where it costs so much more, as a part of what is spent; then another
#: one is good enough that is nearer to its bound than this part of that.
_FAR, _ENOUGH = 0.02, 0.3

#: Of so many prices programs of several deployments are told what was proven at them.
_TOLD = 3

#: A whole plan is good enough where it is this near to its bound, as a part of what is spent.
_GAP = 1e-4

#: Of what the linear answer takes whole, so much is chosen anew: the first time, and later. Of so few at once.
_FREED = (0.1, 0.3, 0.6)
_FREED_AGAIN = (0.6, 1.0)
_WHOLE_AT_ONCE = 200

#: So many times prices, choice and repair take turns, after a first time with half of all pricing.
_TURNS = 2

#: All plans are looked at that cost such a part of what is spent beyond the bound, next so many times that, and such a
#: part of the gap at least.
_SPARE, _WIDER, _STEPS = 3e-3, 4.0, 30

#: Repair ends for this turn where it was in vain so many times in a row.
_IN_VAIN = 20


def improve(
    problem: PlacementProblem,
    *,
    start: PlacementPlan | None,
    effort: Effort,
    seed: int,
    gpu_micro_usd_per_h_by_pool: Mapping[str, int] | None = None,
) -> PlacementPlan:
    """A plan no dearer than ``start``, with a proven lower bound and scarcity prices.

    start: None: the greedy one, in which who runs makes way too

    gpu_micro_usd_per_h_by_pool: what GPUs were worth in the last plan that was searched for; the nearer that is to what
        they are worth now, the fewer rounds it takes

    What ``start`` keeps of each deployment's wishes is kept, but for the survivability of those who could make way for
    somebody who lacks replicas or nearness, and of what sleeps: the places that it could start in hold no room.
    """
    begun = priced(problem, solve(problem, runners_make_way=True) if start is None else start)
    search = Search(problem, begun, effort, np.random.default_rng(seed), gpu_micro_usd_per_h_by_pool)
    if not search.chosen:
        return begun
    search.run()
    search.leave_out_idle()
    return search.plan()


@dataclass(slots=True)
class Search:
    """Owner: one run of ``improve``.

    worth:    what GPUs were worth before, by pool
    given_up: what it costs that what sleeps gives up the room that it holds: so much each plan costs besides
    """

    problem: PlacementProblem
    start: PlacementPlan
    effort: Effort
    rng: np.random.Generator
    worth: Mapping[str, int] | None = None
    offers: Offers = field(init=False)
    demanders: Demanders = field(init=False)
    master: Master = field(init=False)
    bidding: Bidding = field(init=False)
    chosen: list[int] = field(init=False)
    given_up: float = field(init=False)

    def __post_init__(self) -> None:
        costs = plan_costs(self.problem, self.start)
        self.offers = Offers(self.problem)
        self.demanders = Demanders(self.offers, self.start.deployments)
        self.master = Master(self.offers, self.demanders.numbers)
        first = self.master.guess() if self.worth is None else self.master.known(self.worth)
        self.bidding = Bidding(self.demanders, self.master, first)
        columns = [
            column_of(self.offers, number, entry, costs[entry.deployment_id])
            for number, entry in enumerate(self.start.deployments)
        ]
        searched = set(self.demanders.numbers)
        self.master.add(one for one in columns if one.number in searched)
        self.chosen = list(range(len(searched)))
        beside = [one for one in columns if one.number not in searched and one.replicas]
        self.master.leave_room(beside, self.chosen)
        asleep = [one for one in columns if one.number not in searched and not one.replicas]
        self.given_up = float(
            sum(
                costs[self.start.deployments[one.number].deployment_id].churn_micro_usd_per_h
                for one in asleep
            )
        )

    def run(self) -> None:
        """Prices first, then choice, repair and better prices in turn, until effort or time ends or nothing is open."""
        clock, rounds = Clock(self.effort.left_s), self.effort.rounds
        self.bidding.run(max(1, rounds // 2), clock.part(0.8 if self.bidding.few else 0.5))
        self.choose(_FREED, clock.part(0.4))
        if self.bidding.few:
            self._finish(clock)
            return
        for turn in range(_TURNS, 0, -1):
            mine = clock.part(1 / turn)
            if not self.bidding.settled:
                self.bidding.run((rounds - rounds // 2) // _TURNS, mine.part(0.4))
            self.choose(_FREED_AGAIN, mine.part(0.4))
            self.repair(self.effort.repairs // _TURNS, mine)

    def choose(self, shares: Sequence[float], clock: Clock) -> None:
        """Of the columns that could be in the best plan, one a deployment.

        shares: of what the linear answer takes whole, so much is chosen anew, by chance; one after the other
        """
        if self.bidding.relaxed is None:
            return
        reduced = self.master.reduced(self.bidding.relaxed)
        most = np.sort(reduced)[min(len(reduced) - 1, 6 * len(self.demanders.numbers))]
        chosen = set(self.chosen)
        open_ = [index for index in range(len(reduced)) if reduced[index] <= most or index in chosen]
        if len(self.chosen) <= _WHOLE_AT_ONCE:
            shares = (1.0,)
        for place, freed in enumerate(shares):
            settled = self._settled(self.bidding.relaxed, freed)
            numbers = {self._number(index) for index in settled}
            free = [index for index in open_ if self._number(index) not in numbers]
            self._try(free, settled, clock.part(1 / (len(shares) - place)))

    def _settled(self, answer: Relaxed, freed: float) -> list[int]:
        """Columns that the linear answer takes whole, but for a share ``freed`` of them, by chance."""
        whole = [int(index) for index in np.flatnonzero(answer.shares > 1 - 1e-6)]
        keep = self.rng.random(len(whole)) >= freed
        return [index for index, kept in zip(whole, keep, strict=True) if kept]

    def repair(self, times: int, clock: Clock) -> None:
        """Deployments that meet in the same pools choose anew together, in the room that all others leave.

        Until it was in vain so many times in a row.
        """
        vain = 0
        for _ in range(times):
            if clock.late() or vain == _IN_VAIN:
                break
            before = self.chosen
            self._anew(self._neighbours(min(_TOGETHER, len(self.chosen))), clock)
            vain = vain + 1 if self.chosen is before else 0

    def _finish(self, clock: Clock) -> None:
        """The best of all plans that are so much above the bound, for more and more of that: to the end."""
        if self.bidding.priced is None:
            return
        begun = self.master.columns[: len(self.demanders.numbers)]
        parties = Parties(self.demanders, self._proven(), self.bidding.priced, begun)
        spare = _SPARE * self.master.spent(self.chosen)
        while not clock.late() and self._gap() > 2 * _GAP * self.master.spent(self.chosen):
            cost = self.master.value(self.chosen)
            total = min(self.bidding.bound + spare, cost)
            bound = self._of_all(parties, total, clock)
            self.bidding.bound = max(self.bidding.bound, min(total, bound))
            if total == cost:
                break
            spare = max(_WIDER * spare, self._gap() / _STEPS)

    def _gap(self) -> float:
        return self.master.value(self.chosen) - self.bidding.bound

    def _of_all(self, parties: Parties, total: float, clock: Clock) -> float:
        """The best of all plans that cost ``total`` at most is chosen; none of them costs less than the answer."""
        all_, limits = parties.within(total, self._now()), self._limits(clock)
        most = min(total, self.master.value(self.chosen) - limits.gap_micro_usd_per_h)
        limits = replace(limits, most_micro_usd_per_h=most)
        loose = self._joint(all_, (), strict=False)
        answer = loose.solve(limits, NO_HEURISTICS)
        if not self._take(answer.columns, ()) and answer.bound < most and not clock.late():
            strict = self._joint([replace(one, floor=math.inf) for one in all_], (), strict=True)
            self._take(strict.solve(limits).columns, ())
        self._glance(loose, total, clock)
        return answer.bound

    def _glance(self, joint: Joint, total: float, clock: Clock) -> None:
        """A better plan beyond ``total``, if one is found at once: who has one need not look so far next time."""
        beyond = self.master.value(self.chosen) - total
        limits = self._limits(clock)
        if beyond <= _FAR * self.master.spent(self.chosen) or clock.late():
            return
        most = total + beyond - limits.gap_micro_usd_per_h
        gap = max(limits.gap_micro_usd_per_h, _ENOUGH * beyond)
        limits = replace(limits, gap_micro_usd_per_h=gap, most_micro_usd_per_h=most, nodes=1)
        self._take(joint.solve(limits, NO_NEIGHBOURS).columns, ())

    def _proven(self) -> list[Proven]:
        """The highest bound first."""
        return sorted(self.bidding.proven, key=lambda one: -one.bound)

    def _now(self) -> list[Column]:
        """What each does now."""
        return [self.master.columns[index] for index in self.chosen]

    def _joint(self, parties: Sequence[Party], others: Sequence[int], *, strict: bool) -> Joint:
        joint = Joint(self.offers, parties, self.master.room(others), strict=strict)
        for one in self._proven()[:_TOLD]:
            joint.tell(one)
        return joint

    def _limits(self, clock: Clock) -> Limits:
        gap = _GAP * max(1.0, self.master.spent(self.chosen))
        return Limits(gap_micro_usd_per_h=gap, nodes=self.effort.nodes, time_s=clock.seconds)

    def _anew(self, numbers: set[int], clock: Clock) -> None:
        """Some deployments choose anew together, beside all others."""
        parties = [
            Party(number=number, offers=offers)
            for number in sorted(numbers)
            if (offers := self.demanders.by_number[number])
        ]
        if not parties:
            return
        moved = {party.number for party in parties}
        others = [index for index in self.chosen if self._number(index) not in moved]
        now = self.master.value(self.chosen) - self.master.value(others)
        limits = replace(self._limits(clock), most_micro_usd_per_h=now)
        answer = self._joint(parties, others, strict=True).solve(limits)
        self._take(answer.columns, others)

    def _take(self, found: Sequence[Column | None] | None, others: Sequence[int]) -> bool:
        """Whether columns are all there and fit beside the others; a better plan is chosen."""
        columns = [one for one in found or () if one is not None]
        if not columns or len(columns) < len(found or ()):
            return False
        self.master.add(columns)
        chosen = sorted([*others, *(self.master.position(one) for one in columns)])
        if not self.master.fits(chosen) or not self.master.packs(chosen):
            return False
        if self.master.value(chosen) < self.master.value(self.chosen) - 1:
            self.chosen = chosen
        return True

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

    def _try(self, free: list[int], settled: list[int], clock: Clock) -> None:
        """Some of the columns ``free`` beside those that are settled; a better plan is taken."""
        if not free or clock.late():
            return
        gap = 2 * _GAP * self.master.spent(self.chosen)
        found = self.master.whole(
            free, settled or self.chosen, gap=gap, nodes=self.effort.nodes, time_s=clock.seconds
        )
        if found is None or not self.master.fits(found) or not self.master.packs(found):
            return
        if self.master.value(found) < self.master.value(self.chosen) - 1:
            self.chosen = sorted(found)

    def leave_out_idle(self) -> None:
        """What was chosen, without replicas that nobody needs."""
        first = len(self.demanders.numbers)
        found = [self.master.columns[index] for index in self.chosen if index >= first]
        columns = [self.demanders.lean(one) for one in found]
        self.master.add(columns)
        kept = [index for index in self.chosen if index < first]
        self.chosen = sorted([*kept, *map(self.master.position, columns)])

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
        if math.isfinite(self.bidding.bound):
            least = self.bidding.bound + self.given_up
            slack = 1e-9 * abs(least) + len(self.problem.deployments)
            bound = max(0, math.floor(least - slack))
            bound = min(bound, plan.objective_micro_usd_per_h or 0)
        return replace(plan, lower_bound_micro_usd_per_h=bound, gpu_micro_usd_per_h_by_pool=self._scarcity())

    def _choice(self, column: Column) -> Choice:
        pools = self.problem.pools
        serving: dict[str, int] = {}
        standby: dict[str, int] = {}
        for (pool, aside), replicas in column.replicas.items():
            (standby if aside else serving)[pools[pool].pool_id] = replicas
        rung = Rung(level=column.level or "none", near=not column.far)
        return Choice(serving=serving, standby=standby, rung=rung, whole=not column.short)

    def _scarcity(self) -> Mapping[str, int]:
        """What a GPU is worth beyond its rent."""
        prices = self.bidding.center
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
