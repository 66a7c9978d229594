"""What is the smallest change that would give a deployment all that it wishes?

For one that a plan refuses, or whose wishes it relaxes: which pools would have to grow by how much, and whether
``max_replicas`` or the budget would have to rise, beside everything else as it is in the plan. ``stretch`` finds the
least; it is tried before it is said: ``solve`` is asked again in the world so changed, and must keep every wish. Takes
tens of milliseconds; not for the path of a solve.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from controlplane.costing import usd_exact
from controlplane.placement.greedy.solver import solve
from controlplane.placement.judge.certificate import certify
from controlplane.placement.judge.standing import Standings, chance, domains_of, unlawful, unsuitable
from controlplane.placement.plan import DeploymentPlan, PlacementPlan
from controlplane.placement.problem import PlacementProblem
from controlplane.placement.questions.stretch import Place, Stretch, least_stretch
from controlplane.placement.supply import Occupancy, Pool
from controlplane.placement.wishes import Budget, Survivability, WantedDeployment

LEVELS: tuple[Survivability, ...] = ("none", "zone", "region", "provider")

#: The program does not pack replicas into instances: where an answer fails for that, so many instances more are tried.
MORE_TRIED = 2
#: So many other pools are tried, in which as many GPUs would do as well.
ALTERNATIVES_TRIED = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """Instances to be added to a pool (``cluster/pool``); ``is_new``: the pool is not there yet."""

    pool_id: str
    pool: str
    region: str
    gpu_type: str
    instance_type: str
    instances: int
    gpus: int
    is_new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallestChange:
    """What would do, tried. Where nothing is asked for, there is room for it beside the plan as it is.

    survivability:   what it would survive then; less than it wishes where no growth would give all of it
    growths:         instances to add
    max_replicas:    to what it must rise; None: it is high enough
    budget_micro_usd_per_h: likewise, of the project
    regions:         where as many GPUs of the type would do alone, if one pool is enough
    micro_usd_per_h: what the added instances cost
    said:            all of it in words
    """

    deployment_id: str
    survivability: Survivability
    growths: tuple[Growth, ...]
    max_replicas: int | None
    budget_micro_usd_per_h: int | None
    regions: tuple[str, ...]
    micro_usd_per_h: int
    said: str


def smallest_change(
    problem: PlacementProblem, plan: PlacementPlan, deployment_id: str
) -> SmallestChange | None:
    """Of all its wishes, or of as much survivability as any growth of pools of a known kind would give.

    None where no such growth would give more than it has (then the plan's own words say what stands in the way). Raises
    KeyError where problem or plan has no such deployment.
    """
    entry = plan.by_deployment[deployment_id]
    wished = problem.deployment_by_id[deployment_id].survivability
    lower = tuple(reversed(LEVELS[: LEVELS.index(wished)])) if entry.refusal is not None else ()
    for survivability in (wished, *lower):
        found = _smallest(_Alone(problem, plan, deployment_id, survivability))
        if found is not None:
            return found
    return None


def _smallest(alone: "_Alone") -> SmallestChange | None:
    stretch = least_stretch(alone.deployment, alone.places, alone.money_left_usd_per_h)
    if stretch is None:
        return None
    for more in range(MORE_TRIED + 1):
        grown = {pool_id: instances + more for pool_id, instances in stretch.instances.items()}
        found = alone.tried(replace(stretch, instances=grown))
        if found is not None:
            return _trimmed(alone, replace(stretch, instances=grown), found)
        if not stretch.instances:
            return None
    return None


def _trimmed(alone: "_Alone", stretch: Stretch, found: SmallestChange) -> SmallestChange:
    """What is not needed after all is taken back, the dearest first: the program errs on asking for too much."""
    prices = {row.pool.pool_id: row.pool.instance_micro_usd_per_h or 0 for row in alone.places}
    for pool_id in sorted(stretch.instances, key=lambda pool_id: (-prices[pool_id], pool_id)):
        while pool_id in stretch.instances:
            less = {name: count - (name == pool_id) for name, count in stretch.instances.items()}
            fewer = replace(stretch, instances={name: count for name, count in less.items() if count})
            enough = alone.tried(fewer)
            if enough is None:
                break
            stretch, found = fewer, enough
    return found


class _Alone:
    """The deployment alone, in the room that all others have in the plan."""

    def __init__(
        self,
        problem: PlacementProblem,
        plan: PlacementPlan,
        deployment_id: str,
        survivability: Survivability,
    ) -> None:
        self._wished = problem.deployment_by_id[deployment_id]
        self.deployment = replace(self._wished, survivability=survivability)
        self._known = Standings(problem)
        self._problem = problem
        self._others_spent = sum(
            entry.micro_usd_per_h
            for entry in plan.deployments
            if entry.deployment_id != deployment_id
            and problem.deployment_by_id[entry.deployment_id].project_id == self.deployment.project_id
        )
        self._budget = next(
            (row for row in problem.budgets if row.project_id == self.deployment.project_id), None
        )
        self._taken = tuple(_taken(problem, plan, deployment_id))
        self.places = tuple(self._existing()) + tuple(self._not_there_yet())
        self._place_by_id = {place.pool.pool_id: place for place in self.places}

    @property
    def money_left_usd_per_h(self) -> float | None:
        by_demand = self._known.planned_by(self.deployment) == "demand"
        if self._budget is None or (self.deployment.min_replicas == 0 and not by_demand):
            return None  # a place to start in costs nothing
        return (self._budget.micro_usd_per_h - self._others_spent) / 1e6

    def _existing(self) -> Iterator[Place]:
        problem, deployment = self._problem, self.deployment
        held: dict[str, int] = defaultdict(int)
        for row in problem.current_of(deployment.deployment_id):
            held[row.pool_id] += row.room_replicas
        free = {pool.pool_id: float(pool.capacity_instances) for pool in problem.pools}
        for taken in self._taken:
            if taken.deployment_id == deployment.deployment_id:
                continue  # its own outgoing replicas make way for it
            share = _instance_share(problem.pool_by_id[taken.pool_id], taken.gpus_per_replica)
            free[taken.pool_id] -= taken.replicas * share
        for pool in problem.pools:
            if not self._could_use(pool):
                continue
            cluster = problem.cluster_by_id[pool.cluster_id]
            is_open = not pool.closed and not cluster.closed and pool.instance_micro_usd_per_h is not None
            takes_new = is_open and self._serves(pool)
            if takes_new or held[pool.pool_id]:
                limit = None if takes_new else held[pool.pool_id]
                yield self._place(pool, free[pool.pool_id], limit=limit, grows=takes_new, is_new=False)

    def _not_there_yet(self) -> Iterator[Place]:
        """In each open cluster, the type that serves cheapest of those its provider has, unless it is there."""
        problem = self._problem
        there = {(place.pool.cluster_id, place.pool.instance_type_id) for place in self.places_that_grow()}
        by_provider: dict[str, list[Pool]] = defaultdict(list)
        for pool in problem.pools:
            if pool.procurement != "spot" and pool.instance_micro_usd_per_h is not None:
                by_provider[problem.cluster_by_id[pool.cluster_id].provider].append(pool)
        for cluster in problem.clusters:
            if cluster.closed:
                continue
            possible = [
                replace(
                    pool,
                    pool_id=f"new {cluster.cluster_id} {pool.instance_type_id}",
                    name=f"new {pool.instance_type}",
                    cluster_id=cluster.cluster_id,
                    procurement="on_demand",
                    capacity_instances=0,
                    hazard_per_h=0.0,
                    obtainability=1.0,
                    closed="",
                )
                for pool in by_provider[cluster.provider]
            ]
            usable = [
                self._place(pool, 0.0, is_new=True)
                for pool in possible
                if self._could_use(pool) and self._serves(pool)
            ]
            if usable:
                best = min(
                    usable, key=lambda place: (place.replica_usd_per_h / place.share, place.pool.pool_id)
                )
                if (cluster.cluster_id, best.pool.instance_type_id) not in there:
                    yield best

    def places_that_grow(self) -> Iterator[Place]:
        return (place for place in self._existing() if place.grows)

    def _place(
        self, pool: Pool, free_instances: float, *, limit: int | None = None, grows: bool = True, is_new: bool
    ) -> Place:
        deployment = self.deployment
        return Place(
            pool=pool,
            free_instances=free_instances,
            limit=limit,
            share=self._known.share_each(deployment, pool, deployment.gpus_per_replica),
            chance=chance(self._problem, deployment, pool),
            instance_share=_instance_share(pool, deployment.gpus_per_replica),
            domains=frozenset(domains_of(pool, self._problem.cluster_by_id[pool.cluster_id])),
            grows=grows,
            is_new=is_new,
        )

    def _could_use(self, pool: Pool) -> bool:
        """Law, hardware, its domain recorded, and not too far."""
        deployment, cluster = self.deployment, self._problem.cluster_by_id[pool.cluster_id]
        if unlawful(deployment, cluster) or next(unsuitable(deployment, pool), None) is not None:
            return False
        kind = deployment.survivability
        if kind != "none" and not cluster.domains(kind):
            return False
        target_s = deployment.slo.ttft_s_p95
        origins = self._known.origins(deployment.deployment_id)
        if target_s is None or not origins:
            return True
        return any(self._problem.rtt_s(row.origin_region, cluster.region) <= target_s for row in origins)

    def _serves(self, pool: Pool) -> bool:
        """Whether it was measured there, where demand counts."""
        return self._known.share_each(self.deployment, pool, self.deployment.gpus_per_replica) > 0

    def tried(self, stretch: Stretch) -> SmallestChange | None:
        """What it comes to, if a plan that keeps every wish comes of it."""
        most = self.deployment.max_replicas + stretch.more_replicas
        budget = self._budget.micro_usd_per_h if self._budget is not None else None
        if budget is not None and stretch.more_usd_per_h:
            entry = self.placed(stretch.instances, most, None)
            if entry is None:
                return None
            budget = max(budget, self._others_spent + entry.micro_usd_per_h)
        if self.placed(stretch.instances, most, budget) is None:
            return None
        growths = tuple(self._growth(pool_id, count) for pool_id, count in stretch.instances.items())
        regions, known = self._alternatives(growths, most, budget)
        change = SmallestChange(
            deployment_id=self.deployment.deployment_id,
            survivability=self.deployment.survivability,
            growths=growths,
            max_replicas=most if stretch.more_replicas else None,
            budget_micro_usd_per_h=budget if stretch.more_usd_per_h else None,
            regions=regions,
            micro_usd_per_h=sum(
                growth.instances * (self._place_by_id[growth.pool_id].pool.instance_micro_usd_per_h or 0)
                for growth in growths
            ),
            said="",
        )
        return replace(change, said=_said(change, known, self._wished))

    def placed(
        self, instances: Mapping[str, int], max_replicas: int, budget: int | None
    ) -> DeploymentPlan | None:
        """Its entry, if it is placed with every wish kept, by the certificate too."""
        problem = self._problem
        pools = [
            replace(pool, capacity_instances=pool.capacity_instances + instances.get(pool.pool_id, 0))
            for pool in problem.pools
        ]
        pools += [
            replace(place.pool, capacity_instances=instances[place.pool.pool_id])
            for place in self.places
            if place.is_new and place.pool.pool_id in instances
        ]
        wanted = replace(self.deployment, max_replicas=max_replicas)
        world = replace(
            problem,
            pools=tuple(pools),
            deployments=(wanted,),
            current=problem.current_of(wanted.deployment_id),
            occupancies=self._taken,
            demands=problem.demands_of(wanted.deployment_id),
            budgets=(
                ()
                if budget is None
                else (
                    Budget(project_id=wanted.project_id, micro_usd_per_h=max(0, budget - self._others_spent)),
                )
            ),
        )
        plan = solve(world)
        [entry] = plan.deployments
        if entry.refusal is not None or entry.relaxed or not certify(world, plan).holds:
            return None
        return entry

    def _growth(self, pool_id: str, instances: int) -> Growth:
        pool = self._place_by_id[pool_id].pool
        cluster = self._problem.cluster_by_id[pool.cluster_id]
        return Growth(
            pool_id=pool_id,
            pool=f"{cluster.name}/{pool.name}",
            region=cluster.region,
            gpu_type=pool.gpu_type,
            instance_type=pool.instance_type,
            instances=instances,
            gpus=instances * pool.gpus_per_instance,
            is_new=self._place_by_id[pool_id].is_new,
        )

    def _alternatives(
        self, growths: Sequence[Growth], max_replicas: int, budget: int | None
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Regions in which as many GPUs of the type alone would do, and all in which there could be some."""
        if len(growths) != 1:
            return (), ()
        [growth] = growths
        alike = [place for place in self.places if place.grows and place.pool.gpu_type == growth.gpu_type]
        good, known = {growth.region}, {growth.region}
        for place in alike[:ALTERNATIVES_TRIED]:
            region = self._problem.cluster_by_id[place.pool.cluster_id].region
            known.add(region)
            instances = -(-growth.gpus // place.pool.gpus_per_instance)
            if region not in good and self.placed({place.pool.pool_id: instances}, max_replicas, budget):
                good.add(region)
        return tuple(sorted(good)), tuple(sorted(known))


def _taken(problem: PlacementProblem, plan: PlacementPlan, deployment_id: str) -> Iterator[Occupancy]:
    """The rooms of all others and what is on its way out, as so much that is not to be had."""
    sizes: dict[tuple[str, int], int] = defaultdict(int)
    for entry in plan.deployments:
        if entry.deployment_id != deployment_id:
            for row in entry.allocations:
                sizes[row.pool_id, row.gpus_per_replica] += row.room_replicas
    for (pool_id, gpus), replicas in sorted(sizes.items()):
        if replicas:
            yield Occupancy(deployment_id="others", pool_id=pool_id, gpus_per_replica=gpus, replicas=replicas)
    yield from problem.occupancies


def _instance_share(pool: Pool, gpus_per_replica: int) -> float:
    return 1 / max(1, pool.gpus_per_instance // gpus_per_replica)


def _said(change: SmallestChange, known_regions: Sequence[str], wished: WantedDeployment) -> str:
    parts = []
    if len(change.growths) == 1 and len(change.regions) > 1:
        [growth] = change.growths
        parts.append(f"{_gpus(growth)} in {_any_region(change.regions, known_regions, wished.residency)}")
    elif change.growths:
        parts.append(" and ".join(f"{_gpus(growth)} in {_where(growth)}" for growth in change.growths))
    if change.max_replicas is not None:
        parts.append(f"max_replicas of {change.max_replicas}")
    if change.budget_micro_usd_per_h is not None:
        parts.append(f"a budget of {usd_exact(change.budget_micro_usd_per_h)} USD/h for its project")
    said = "; ".join(parts) or "nothing: there is room for it beside this plan"
    if change.survivability == wished.survivability:
        return said
    kept = "no loss" if change.survivability == "none" else f"the loss of a {change.survivability} at most"
    return f"{said} (and survives {kept})"


def _gpus(growth: Growth) -> str:
    return f"{growth.gpus} more {growth.gpu_type} ({growth.instances} x {growth.instance_type})"


def _where(growth: Growth) -> str:
    return f"a new pool in {growth.pool.split('/')[0]}" if growth.is_new else f"pool {growth.pool}"


def _any_region(good: Sequence[str], known: Sequence[str], residency: Sequence[str]) -> str:
    others = [region for region in known if region not in good]
    lawful = " or ".join(one.upper() for one in residency)
    anywhere = f"any {lawful} region" if lawful else "any region"
    if not others:
        return anywhere
    if len(others) < len(good):
        return f"{anywhere} but {' and '.join(others)}"
    return " or ".join(good)
