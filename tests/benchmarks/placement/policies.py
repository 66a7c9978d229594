"""What other systems would do with the same problem, written from what they say of themselves.

Each policy places one deployment after the other, in the order in which they were made, a replica at a time, until
the demand is served; with ``survive`` until it is served whatever promised loss comes, as an operator would who turns
each system's own knobs (more replicas, a second deployment as a standby) and can see exactly when it is enough. Where
the sources leave something open the cheaper reading was taken, and all of them are given what they do not know:
measured throughput, a GPU's share of a machine (Modelplane charges whole nodes), regions near enough, the best traffic.

Sources:
- SkyServe: docs.skypilot.co "Using Spot Instances for Serving", sky/serve/spot_placer.py (DynamicFallbackSpotPlacer) of
  skypilot-org/skypilot, and Mao et al., "SkyServe: Serving AI Models across Regions and Clouds with Spot Instances"
  (EuroSys 2025). One accelerator type a service; spot in the cheapest zone that has none of its replicas yet, in the
  cheapest of all once every zone has one; on demand where no spot is to be had. What runs is not moved.
- Modelplane: docs/content/architecture/scheduling.md of modelplaneai/modelplane. Retains what runs where it still
  matches; fills one at a time onto the matching cluster with fewest of the deployment's own replicas; the highest
  index goes first when there are too many. No price, no latency, no throughput.
- Price-greedy: the cheapest pool per request served, reserved capacity as free, then the next. What runs is not looked
  at. To survive a loss it spreads: the cheapest pool of the domain that serves least so far.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from controlplane.costing import replica_micro_usd_per_h
from controlplane.placement import (
    Allocation,
    Cluster,
    DeploymentPlan,
    DomainKind,
    PlacementPlan,
    PlacementProblem,
    Pool,
    WantedDeployment,
)
from controlplane.placement.rules.cost import priced
from controlplane.placement.rules.filters import lawful, open_to_new, suitable
from controlplane.placement.rules.traffic import too_far, traffic
from workloadplane.protocol.refusal import Refusal

KINDS: tuple[DomainKind, ...] = ("zone", "region", "provider")
ENOUGH = 1 - 1e-9


@dataclass(slots=True)
class Fleet:
    """GPUs that are left. Exact where every size of replica divides the machine's, as in the benchmark's instances."""

    problem: PlacementProblem
    free_gpus: dict[str, int]
    reserved_gpus: dict[str, int]

    def fits(self, pool: Pool, gpus: int) -> bool:
        return self.free_gpus[pool.pool_id] >= gpus

    def take(self, pool: Pool, gpus: int, replicas: int = 1) -> None:
        self.free_gpus[pool.pool_id] -= gpus * replicas
        self.reserved_gpus[pool.pool_id] -= gpus * replicas

    def price(self, pool: Pool, gpus: int) -> int:
        """Of one more replica, in micro-USD/h: nothing while a reservation pays for it."""
        if self.reserved_gpus[pool.pool_id] >= gpus:
            return 0
        return replica_micro_usd_per_h(
            instance_micro_usd_per_h=pool.instance_micro_usd_per_h or 0,
            gpus_per_instance=pool.gpus_per_instance,
            gpus=gpus,
        )


@dataclass(slots=True)
class Service:
    """One deployment while it is being placed, and what its replicas serve so far."""

    fleet: Fleet
    wanted: WantedDeployment
    pools: tuple[Pool, ...]
    share: Mapping[str, float]
    survive: bool
    replicas: Counter[str] = field(default_factory=Counter)
    standby: Counter[str] = field(default_factory=Counter)

    def cluster(self, pool: Pool) -> Cluster:
        return self.fleet.problem.cluster_by_id[pool.cluster_id]

    def zone(self, pool: Pool) -> str:
        return ",".join(self.cluster(pool).domains("zone"))

    def with_room(self) -> list[Pool]:
        return [pool for pool in self.pools if self.fleet.fits(pool, self.wanted.gpus_per_replica)]

    def add(self, pool: Pool, replicas: int = 1) -> None:
        self.fleet.take(pool, self.wanted.gpus_per_replica, replicas)
        self.replicas[pool.pool_id] += replicas

    def enough(self) -> bool:
        """Whether demand and minimum are met, after each loss that must be survived."""
        needed = max(1, self.wanted.min_replicas)
        total = self._weight(self.replicas)
        if total[0] < ENOUGH or total[1] < needed - 1e-9:
            return False
        if self.wanted.posture == "active_passive":
            return True
        lost: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for pool_id, count in self.replicas.items():
            share, ready = self._weight({pool_id: count})
            for loss in self._losses(self.fleet.problem.pool_by_id[pool_id]):
                lost[loss][0] += share
                lost[loss][1] += ready
        return all(
            total[0] - share >= ENOUGH and total[1] - ready >= needed - 1e-9 for share, ready in lost.values()
        )

    def _weight(self, replicas: Mapping[str, int]) -> tuple[float, float]:
        share = ready = 0.0
        horizon_h = self.fleet.problem.weights.spot_horizon_h
        for pool_id, count in replicas.items():
            pool = self.fleet.problem.pool_by_id[pool_id]
            lives = math.exp(-pool.hazard_per_h * horizon_h) if self.survive else 1.0
            share += self.share[pool_id] * count * lives
            ready += count * lives
        return share, ready

    def _losses(self, pool: Pool) -> Iterable[str]:
        if not self.survive:
            return
        for kind in KINDS[: 1 + KINDS.index(self.wanted.survivability)]:
            yield from (f"{kind} {name}" for name in self.cluster(pool).domains(kind))
        if pool.procurement == "spot":
            yield f"spot {pool.instance_type_id} in {self.zone(pool)}"


#: Which pool gets the next replica, of those that have room; it is asked with at least one.
Choice = Callable[[Service, Sequence[Pool]], Pool]


def skyserve(problem: PlacementProblem, *, survive: bool = False) -> PlacementPlan:
    """Spot in the cheapest unused zone, one accelerator type, on demand where there is none."""
    return _placed(problem, _skyserve_choice, retain=True, survive=survive)


def modelplane(problem: PlacementProblem, *, survive: bool = False) -> PlacementPlan:
    """Retain what runs, then fill the cluster with fewest own replicas."""
    return _placed(problem, _modelplane_choice, retain=True, survive=survive)


def price_greedy(problem: PlacementProblem, *, survive: bool = False) -> PlacementPlan:
    """The cheapest pool per request, then the next."""
    return _placed(problem, _cheapest_choice, retain=False, survive=survive)


POLICIES: Mapping[str, Callable[..., PlacementPlan]] = {
    "SkyServe": skyserve,
    "Modelplane": modelplane,
    "price-greedy": price_greedy,
}


def _skyserve_choice(service: Service, room: Sequence[Pool]) -> Pool:
    gpus = service.wanted.gpus_per_replica

    def per_request(pool: Pool) -> float:
        list_price = (pool.instance_micro_usd_per_h or 0) / pool.gpus_per_instance
        return list_price / service.share[pool.pool_id]

    on_demand = [pool for pool in service.pools if pool.procurement != "spot"] or service.pools
    types = list(dict.fromkeys(pool.gpu_type for pool in sorted(on_demand, key=per_request)))
    types += [pool.gpu_type for pool in room if pool.gpu_type not in types]
    accelerator = next(one for one in types if any(pool.gpu_type == one for pool in room))
    matching = [pool for pool in room if pool.gpu_type == accelerator]
    spot = [pool for pool in matching if pool.procurement == "spot"]
    used = {service.zone(service.fleet.problem.pool_by_id[pool_id]) for pool_id in service.replicas}
    unused = [pool for pool in spot if service.zone(pool) not in used]
    return min(unused or spot or matching, key=lambda pool: (service.fleet.price(pool, gpus), pool.pool_id))


def _modelplane_choice(service: Service, room: Sequence[Pool]) -> Pool:
    own: Counter[str] = Counter()
    for pool_id, replicas in service.replicas.items():
        own[service.fleet.problem.pool_by_id[pool_id].cluster_id] += replicas
    return min(room, key=lambda pool: (own[pool.cluster_id], pool.cluster_id, pool.pool_id))


def _cheapest_choice(service: Service, room: Sequence[Pool]) -> Pool:
    served: dict[str, float] = defaultdict(float)
    spread = service.survive
    for pool_id, replicas in service.replicas.items():
        if spread:
            domain = _domain(service, service.fleet.problem.pool_by_id[pool_id])
            served[domain] += service.share[pool_id] * replicas

    def key(pool: Pool) -> tuple[float, float, str]:
        price = service.fleet.price(pool, service.wanted.gpus_per_replica)
        there = served.get(_domain(service, pool), 0.0) if spread else 0.0
        return there, price / service.share[pool.pool_id], pool.pool_id

    return min(room, key=key)


def _domain(service: Service, pool: Pool) -> str:
    kind = service.wanted.survivability
    return "" if kind == "none" else ",".join(service.cluster(pool).domains(kind))


def _placed(problem: PlacementProblem, choice: Choice, *, retain: bool, survive: bool) -> PlacementPlan:
    fleet = Fleet(
        problem,
        {pool.pool_id: pool.capacity_instances * pool.gpus_per_instance for pool in problem.pools},
        {pool.pool_id: problem.tariff_by_pool[pool.pool_id].reserved_gpus for pool in problem.pools},
    )
    in_order = sorted(problem.deployments, key=lambda one: (one.created_at_s, one.deployment_id))
    services = {one.deployment_id: _service(fleet, one, survive) for one in in_order}
    if retain:
        for service in services.values():
            _retain(service)
    for service in services.values():
        _fill(service, choice)
    plan = PlacementPlan(
        deployments=tuple(_entry(services[one.deployment_id]) for one in problem.deployments),
        micro_usd_per_h=0,
        marginal_micro_usd_per_h=0,
    )
    return priced(problem, plan)


def _service(fleet: Fleet, wanted: WantedDeployment, survive: bool) -> Service:
    problem = fleet.problem
    demands = problem.demands_of(wanted.deployment_id)
    requests_per_s = sum(row.requests_per_s_p95 for row in demands)
    tokens_per_s = sum(row.tokens_per_s_p95 for row in demands)
    pools, share = [], {}
    for pool in problem.pools:
        cluster = problem.cluster_by_id[pool.cluster_id]
        profile = problem.profile_of(wanted, pool.instance_type_id)
        if (
            lawful(wanted, pool, cluster)
            or suitable(wanted, pool, cluster)
            or open_to_new(wanted, pool, cluster)
            or too_far(problem, wanted, cluster)
            or (profile is None and demands)
        ):
            continue
        pools.append(pool)
        share[pool.pool_id] = 1.0
        if demands and profile is not None:
            share[pool.pool_id] = 1 / max(
                requests_per_s / profile.requests_per_s, tokens_per_s / profile.tokens_per_s
            )
    return Service(fleet, wanted, tuple(pools), share, survive=survive and wanted.survivability != "none")


def _retain(service: Service) -> None:
    """Keep what runs where it still matches, the first first, and no more than is needed."""
    usable = {pool.pool_id: pool for pool in service.pools}
    for row in service.fleet.problem.current_of(service.wanted.deployment_id):
        pool = usable.get(row.pool_id)
        if pool is None or (service.wanted.posture == "active_passive" and service.replicas):
            continue
        for _ in range(row.room_replicas):
            if service.enough() or not service.fleet.fits(pool, service.wanted.gpus_per_replica):
                break
            service.add(pool)


def _fill(service: Service, choice: Choice) -> None:
    passive = service.wanted.posture == "active_passive"
    while not service.enough() and sum(service.replicas.values()) < service.wanted.max_replicas:
        room = service.with_room()
        if passive and service.replicas:
            serving = {service.fleet.problem.pool_by_id[pool_id].cluster_id for pool_id in service.replicas}
            room = [pool for pool in room if pool.cluster_id in serving]
        if not room:
            return
        service.add(choice(service, room))
    if passive and service.survive and service.enough():
        _stand_by(service, choice)


def _stand_by(service: Service, choice: Choice) -> None:
    """A second deployment of the same capacity elsewhere, which the operator keeps ready."""
    problem = service.fleet.problem
    serving = {_domain(service, problem.pool_by_id[pool_id]) for pool_id in service.replicas}
    others = tuple(pool for pool in service.pools if _domain(service, pool) not in serving)
    second = Service(service.fleet, service.wanted, others, service.share, survive=service.survive)
    at_most = service.wanted.max_replicas - sum(service.replicas.values())
    while not second.enough() and sum(second.replicas.values()) < at_most:
        room = second.with_room()
        if second.replicas:
            there = {problem.pool_by_id[pool_id].cluster_id for pool_id in second.replicas}
            room = [pool for pool in room if pool.cluster_id in there]
        if not room:
            return
        second.add(choice(second, room))
    if second.enough():
        service.standby = second.replicas


def _entry(service: Service) -> DeploymentPlan:
    wanted, problem = service.wanted, service.fleet.problem
    allocations = tuple(
        Allocation(
            revision_id=wanted.revision_id,
            revision=wanted.revision,
            pool_id=pool_id,
            min_replicas=replicas,
            max_replicas=replicas,
            gpus_per_replica=wanted.gpus_per_replica,
            micro_usd_per_h=0,
            marginal_micro_usd_per_h=0,
            reasons=(),
            planned_replicas=replicas,
            standby=standby,
        )
        for standby, counted in ((False, service.replicas), (True, service.standby))
        for pool_id, replicas in counted.items()
    )
    share_by_cluster: dict[str, float] = defaultdict(float)
    for pool_id, replicas in service.replicas.items():
        share_by_cluster[problem.pool_by_id[pool_id].cluster_id] += replicas * service.share[pool_id]
    refusal = None
    if not service.enough() or (
        service.survive and wanted.posture == "active_passive" and not service.standby
    ):
        refusal = Refusal(
            rule="capacity",
            subject=f"deployment {wanted.name}",
            value=f"{sum(service.replicas.values())} replicas do not serve what is asked for",
            remedy="this policy finds no more room",
        )
    return DeploymentPlan(
        deployment_id=wanted.deployment_id,
        generation=wanted.generation,
        allocations=allocations,
        traffic=traffic(problem, wanted, share_by_cluster),
        refusal=refusal,
    )
