"""All deployments of a problem as a market: what each could do, priced together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from controlplane.placement.plan import DeploymentPlan
from controlplane.placement.rules.cost import PlanCost
from controlplane.placement.rules.needs import LEVELS, kept, missing_replicas
from controlplane.placement.rules.traffic import too_far
from controlplane.placement.search.batches import Batch, Prices, batches, rounded
from controlplane.placement.search.columns import Column, column, lawful, lean, paid, repaired
from controlplane.placement.search.offers import Bools, Floats, Ints, Offer, Offers
from controlplane.placement.search.pricing import Found, price
from controlplane.placement.search.programs import Program
from controlplane.placement.wishes import Survivability, WantedDeployment

#: A bound this near to what a plan costs, as a part of it, needs no integer program.
_EXACT = 2e-4

#: Integer programs are solved so many at a time.
_THREADS = 2

#: Deployments of more replicas are priced by programs: whole numbers for tables become too coarse or too large.
_TABLE_REPLICAS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """What pricing gave: each deployment's bound at the prices, each offer's (by its id), and columns."""

    bounds: dict[int, float]
    of_offers: dict[int, float]
    columns: list[Column]


@dataclass(frozen=True, slots=True)
class _Kept:
    """What of its wishes a deployment keeps: up to which survivability, whether not of latency, whether not enough."""

    level: Survivability
    far: bool
    lacking: bool


class Demanders:
    """The deployments that take room, each with the offers of what it wishes or, where it gave wishes up in the plan
    that was begun from, of all that it could do. Where somebody lacks replicas or nearness there, those who could make
    way for it have offers without their survivability too: anybody's gives way before that (decision 0021).

    floor: what it costs at least to take further wishes from who keeps them; infinite where somebody gave some up:
        money does not decide who it is that does
    """

    def __init__(self, offers: Offers, entries: Sequence[DeploymentPlan]) -> None:
        self.offers = offers
        self.numbers: list[int] = []
        self.floor: dict[int, float] = {}
        self.by_number: dict[int, list[Offer]] = {}
        self._kept = [self._kept_of(number, entry) for number, entry in enumerate(entries)]
        self._wanted = self._wanted_of(entries)
        for number in range(len(entries)):
            self._add(number)
        if any(len(found) > 1 for found in self.by_number.values()):
            self.floor.update((number, np.inf) for number, found in self.by_number.items() if found)
        self._programs: dict[int, Program] = {}
        self._columns: dict[tuple[int, bytes, bytes], Column] = {}
        self._named: set[int] = set()
        self._looked: dict[int, int] = {}
        self._round = 0
        self._needs = {
            id(offer): rounded(offer, offers.pools)
            if not offer.short and (offer.passive or offer.needs.size <= _TABLE_REPLICAS)
            else None
            for offer in self.every()
        }
        found = [(offer, self._needs[id(offer)]) for offer in self.every()]
        self.small: list[Batch] = list(
            batches(self.offers.pools, [(offer, needs) for offer, needs in found if needs is not None])
        )
        self.large = [offer for offer, needs in found if needs is None]

    def every(self) -> list[Offer]:
        return [offer for offers in self.by_number.values() for offer in offers]

    def _kept_of(self, number: int, entry: DeploymentPlan) -> _Kept | None:
        """What the plan that was begun from keeps of a deployment's wishes; None: a place to start in takes no room."""
        offers, rows = self.offers, entry.allocations
        deployment = offers.problem.deployments[number]
        if not offers.index.needs(deployment).share_by_type and deployment.min_replicas == 0:
            return None
        far = any(
            too_far(offers.problem, deployment, offers.problem.cluster_by_id[pool.cluster_id])
            for pool in (offers.problem.pool_by_id[row.pool_id] for row in rows)
        )
        level = kept(offers.index, deployment, rows)
        return _Kept(level, far, lacking=missing_replicas(offers.index, deployment, rows) > 0)

    def _wanted_of(self, entries: Sequence[DeploymentPlan]) -> tuple[set[str], set[str]]:
        """Ids of the pools that those could use who lack replicas or nearness, and of their projects with a budget."""
        problem = self.offers.problem
        pools: set[str] = set()
        projects: set[str] = set()
        for number, found in enumerate(self._kept):
            if found is not None and (found.lacking or found.far):
                deployment = problem.deployments[number]
                pools |= {pool.pool_id for pool in self.offers.index.usable(deployment)}
                projects |= {deployment.project_id} & self.offers.project.keys()
        return pools, projects

    def _could_make_way(self, deployment: WantedDeployment) -> bool:
        pools, projects = self._wanted
        return deployment.project_id in projects or any(
            pool.pool_id in pools for pool in self.offers.index.usable(deployment)
        )

    def _add(self, number: int) -> None:
        found = self._kept[number]
        if found is None:
            return
        offers, weights = self.offers, self.offers.problem.weights
        deployment = offers.problem.deployments[number]
        needs = offers.index.needs(deployment)
        self.numbers.append(number)
        levels = LEVELS[LEVELS.index(deployment.survivability) :: -1]
        if found.level == deployment.survivability and not found.far and not found.lacking:
            make_way = self._could_make_way(deployment)
            offered = [offers.offer(number, level) for level in levels[: None if make_way else 1]]
            hours = [weights.missing_replica_h]
            if deployment.survivability != "none":
                hours.append(weights.relaxed_survivability_h * needs.size)
            if deployment.slo.ttft_s_p95 is not None:
                hours.append(weights.relaxed_latency_h * needs.size)
            self.floor[number] = min(hours) * offers.index.wish_micro_usd_per_h(deployment)
        else:
            reach = (False, True) if deployment.slo.ttft_s_p95 is not None else (False,)
            offered = [offers.offer(number, level, far=far) for level in levels for far in reach]
            offered += [offers.offer(number, far=far, short=True) for far in reach] if found.lacking else []
            self.floor[number] = np.inf
        self.by_number[number] = [offer for offer in offered if len(offer.pools)]
        if not self.by_number[number]:
            self.floor[number] = min(self.floor[number], offers.offer(number, short=True).nothing)

    def price(
        self,
        prices: Prices,
        *,
        programs: int,
        open_: float,
        worth: Mapping[int, float],
        known: Mapping[int, float],
        late: Callable[[], bool],
    ) -> Round:
        """Every deployment's cheapest plan.

        programs: so many integer programs at most decide where tables were too coarse or parts of replicas were
                  counted: where the bound is farthest below, and where nobody looked for long
        open_:    what may stay undecided of what all cost together
        worth:    what each deployment may cost at present
        known:    what each deployment's cheapest plan that is known costs at these prices
        late:     whether to leave out the programs that have not begun
        """
        self._round += 1
        made = Round(dict(self.floor), {}, [])
        slack: list[tuple[float, Offer]] = []
        most: dict[int, float] = {}
        for one in self._rough(prices):
            offer, number = one.offer, one.offer.number
            named = self._name(made, one, prices)
            cheapest = np.inf if named is None else paid(self.offers, named, prices)
            most[id(offer)] = cheapest = min(cheapest, known.get(number, np.inf))
            below = min(worth.get(number, np.inf), cheapest) - one.bound
            if one.bound < self.floor[number] and below > _EXACT * abs(one.bound):
                slack.append((below, offer))
            made.of_offers[id(offer)] = one.bound
        chosen = self._undecided(slack, programs, open_)
        for exact in self._programmed(chosen, prices, most, late):
            self._name(made, exact, prices)
            made.of_offers[id(exact.offer)] = max(made.of_offers[id(exact.offer)], exact.bound)
        for offer in self.every():
            made.bounds[offer.number] = min(made.bounds[offer.number], made.of_offers[id(offer)])
        return made

    def _undecided(self, slack: Sequence[tuple[float, Offer]], programs: int, open_: float) -> list[Offer]:
        """Those that an integer program looks at."""
        order = sorted(slack, key=lambda pair: -pair[0])
        left = np.cumsum([below for below, _ in reversed(order)])
        order = order[: len(order) - int(np.searchsorted(left, open_, side="right"))]
        if len(order) > programs:
            order.sort(key=lambda pair: -pair[0] * (self._round - self._looked.get(id(pair[1]), 0)))
        chosen = [offer for _, offer in order[:programs]]
        self._looked.update((id(offer), self._round) for offer in chosen)
        return chosen

    def _rough(self, prices: Prices) -> Iterator[Found]:
        """By tables, and larger ones by linear programs. One after the other: threads would wait for each other's
        Python between calls this short.
        """
        for batch in self.small:
            yield from price(batch, prices, self._projects(batch.offers))
        for offer in self.large:
            yield self._solved(offer, prices, whole=False)

    def _name(self, made: Round, found: Found, prices: Prices) -> Column | None:
        """A column of what was found, mended where it is not lawful; a program's for who has none yet."""
        offer, replicas, standby = found.offer, found.replicas, found.standby
        if replicas is None or (offer.short and not self._in_one_place(offer, replicas)):
            return None
        if not lawful(offer, replicas, standby) and not offer.short:
            replicas = repaired(
                offer,
                replicas,
                self._unit(offer, prices),
                standby=standby,
                cluster=self.offers.pools.cluster[offer.pools],
            )
        if replicas is None or not lawful(offer, replicas, standby):
            if id(offer) in self._named:
                return None
            better = self._solved(offer, prices, whole=True)
            replicas, standby = better.replicas, better.standby
        self._named.add(id(offer))
        if replicas is None or not lawful(offer, replicas, standby):
            return None
        made.columns.append(self._column(offer, replicas, standby))
        return made.columns[-1]

    def _column(self, offer: Offer, replicas: Ints, standby: Bools | None) -> Column:
        """At other prices the same is often named again."""
        key = (id(offer), replicas.tobytes(), b"" if standby is None else standby.tobytes())
        if key not in self._columns:
            self._columns[key] = column(self.offers, offer, replicas, standby)
        return self._columns[key]

    def lean(self, one: Column) -> Column:
        """See ``columns.lean``: by the offer that a column was made of."""
        made_of = (one.level, one.far, one.short)
        for offer in self.by_number[one.number]:
            if (offer.level, offer.far, offer.short) == made_of:
                return lean(self.offers, offer, one)
        return one

    def _in_one_place(self, offer: Offer, replicas: Ints) -> bool:
        """As ``active_passive`` asks; parts of replicas that were rounded up may be in several."""
        used = offer.pools[np.flatnonzero(replicas)]
        return not offer.passive or len(np.unique(self.offers.pools.cluster[used])) == 1

    def _projects(self, offers: Sequence[Offer]) -> Ints:
        return np.array([self.offers.project.get(offer.deployment.project_id, -1) for offer in offers])

    def _unit(self, offer: Offer, prices: Prices) -> Floats:
        return (
            prices.gpu[offer.pools] * offer.gpus
            + offer.refused
            + self._budget(offer, prices) * offer.budgeted
        )

    def _budget(self, offer: Offer, prices: Prices) -> float:
        project = self.offers.project.get(offer.deployment.project_id, -1)
        return float(prices.budget[project]) if project >= 0 else 0.0

    def _programmed(
        self, offers: Sequence[Offer], prices: Prices, most: Mapping[int, float], late: Callable[[], bool]
    ) -> list[Found]:
        """In whole numbers, in threads: HiGHS lets others run. Each offer has a program of its own: their order does
        not matter.
        """

        def solved(offer: Offer) -> Found | None:
            return None if late() else self._solved(offer, prices, whole=True, most=most[id(offer)])

        with ThreadPoolExecutor(_THREADS) as threads:
            return [one for one in threads.map(solved, offers) if one is not None]

    def program(self, offer: Offer) -> Program:
        """The program of one of these offers."""
        program = self._programs.get(id(offer))
        if program is None:
            program = self._programs[id(offer)] = Program(offer, self.offers.pools)
        return program

    def _solved(self, offer: Offer, prices: Prices, *, whole: bool, most: float = np.inf) -> Found:
        solved = self.program(offer).solve(prices, self._budget(offer, prices), whole=whole, most=most)
        return Found(offer, solved.bound, solved.replicas, solved.standby)


def column_of(offers: Offers, number: int, entry: DeploymentPlan, cost: PlanCost) -> Column:
    """A deployment's entry in a plan, as it is, lawful or not. ``cost`` is what it costs in that plan."""
    problem = offers.problem
    replicas: dict[tuple[int, bool], int] = {}
    gpus: dict[int, float] = {}
    room: dict[int, float] = {}
    for row in entry.allocations:
        pool = offers.position[row.pool_id]
        if row.room_replicas:
            per_instance = problem.pools[pool].gpus_per_instance
            replicas[pool, row.standby] = replicas.get((pool, row.standby), 0) + row.room_replicas
            gpus[pool] = gpus.get(pool, 0.0) + row.room_replicas * row.gpus_per_replica
            room[pool] = room.get(pool, 0.0) + row.room_replicas * per_instance / (
                per_instance // row.gpus_per_replica
            )
    own = cost.total_micro_usd_per_h - cost.rent_micro_usd_per_h - cost.interruption_micro_usd_per_h
    return Column(
        number=number,
        replicas=replicas,
        cost=float(own),
        gpus=gpus,
        beyond={pool: max(0.0, amount - offers.freed_gpus(number, pool)) for pool, amount in room.items()},
        budgeted=float(sum(row.micro_usd_per_h for row in entry.allocations)),
        broken=float(cost.relaxed_micro_usd_per_h),
    )
