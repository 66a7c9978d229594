"""What a deployment needs, and what of it a set of replicas gives: one reading of decision 0021 for whoever solves.

``Needs`` says how much of the demand a replica on each pool serves, how much of it is planned for, and how many
replicas must be ready at least. ``kept`` and ``missing_replicas`` say what allocations give of that.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from controlplane.costing import replica_micro_usd_per_h
from controlplane.placement.plan import Allocation
from controlplane.placement.problem import PlacementProblem
from controlplane.placement.rules.filters import lawful, locatable, runnable
from controlplane.placement.rules.memory import Memory, memory_for
from controlplane.placement.supply import CurrentAssignment, DomainKind, PerformanceProfile, Pool
from controlplane.placement.wishes import Survivability, WantedDeployment

#: Surviving the wider loss includes the narrower ones. In the order in which a survivability is given up, backwards.
KINDS: tuple[DomainKind, ...] = ("zone", "region", "provider")
LEVELS: tuple[Survivability, ...] = ("none", *KINDS)

#: Sums of shares this close to what is needed are enough.
TOLERANCE = 1e-9

#: The least that a replica is taken to be worth where wishes are priced, so that they weigh where capacity is free.
LEAST_WISH_MICRO_USD_PER_H = 1_000_000


def kinds_covered(survivability: Survivability) -> tuple[DomainKind, ...]:
    """The kinds of failure domain whose loss a survivability covers."""
    return KINDS[: LEVELS.index(survivability)]


#: What takes room, planned or in force.
Room = Allocation | CurrentAssignment


@dataclass(frozen=True, slots=True)
class Needs:
    """What one deployment needs.

    share_by_type: instance type id -> part of the whole demand (p95) that a replica serves; empty where there is no
                   demand or no profile, and ``replicas`` alone is planned for
    served:        part of the demand that is planned for: 1, or less where ``max_replicas`` bounds it, or 0
    replicas:      so many must be ready at least (1 where ``min_replicas`` is 0: a place to start in)
    size:          so many replicas it takes while nothing is lost, of those that serve most
    """

    share_by_type: Mapping[str, float]
    served: float
    replicas: int
    size: int

    def share(self, pool: Pool) -> float:
        """Part of the whole demand that a replica on ``pool`` serves."""
        return self.share_by_type.get(pool.instance_type_id, 0.0)


def index_of(problem: PlacementProblem, *, former: PlacementProblem | None = None) -> "Index":
    """The problem's index, made when it is first asked for.

    former: an earlier moment of the same world; what was worked out there and is the same still is taken over
    """
    found = problem.memo.get(__name__)
    if not isinstance(found, Index):
        known = index_of(former).memory if former is not None else None
        found = problem.memo[__name__] = Index(problem, memory_for(problem, known))
    return found


class Index:
    """What is asked again and again of one problem, worked out once."""

    def __init__(self, problem: PlacementProblem, memory: Memory | None = None) -> None:
        self.problem = problem
        self.memory = Memory() if memory is None else memory
        self._usable: dict[int, tuple[Pool, ...]] = {}
        self._allowed: dict[object, Mapping[str, bool]] = {}
        self._runnable: dict[object, Sequence[Pool]] = {}
        self._needs: dict[str, Needs] = {}

    def kind(self, deployment: WantedDeployment) -> int:
        """A number that deployments share for which the same pools are usable, on all the memory's ground."""
        kinds = self.memory.kinds
        return self.memory.of(
            "kind",
            deployment.deployment_id,
            (deployment,),
            lambda: self.memory.of_kind(
                "number", (_law_of(deployment), _hardware_of(deployment)), lambda: len(kinds)
            ),
        )

    def usable(self, deployment: WantedDeployment) -> tuple[Pool, ...]:
        """Pools that the law and the hardware allow, open or not, by name of cluster and pool."""
        kind = self.kind(deployment)
        found = self._usable.get(kind)
        if found is None:
            ids = self.memory.of_kind("usable", kind, lambda: self._usable_ids(deployment))
            found = self._usable[kind] = tuple(self.problem.pool_by_id[pool_id] for pool_id in ids)
        return found

    def _usable_ids(self, deployment: WantedDeployment) -> Sequence[str]:
        here = self._clusters_allowed(_law_of(deployment), deployment)
        runs = self._pools_runnable(_hardware_of(deployment), deployment)
        return [pool.pool_id for pool in runs if here[pool.cluster_id]]

    def lawful_clusters(self, deployment: WantedDeployment) -> frozenset[str]:
        """Ids of clusters that the rules let in which bind always, also what runs already."""
        law = (deployment.residency, deployment.providers_allowed, deployment.providers_denied)
        return self.memory.of_kind("lawful", law, lambda: self._lawful_clusters(deployment))

    def _lawful_clusters(self, deployment: WantedDeployment) -> frozenset[str]:
        clusters = self.problem.cluster_by_id
        one_pool = {pool.cluster_id: pool for pool in self.problem.pools}
        return frozenset(
            name for name, pool in one_pool.items() if not lawful(deployment, pool, clusters[name])
        )

    def _clusters_allowed(self, law: object, deployment: WantedDeployment) -> Mapping[str, bool]:
        """Cluster id -> whether the rules about places let it in; they are the same for all its pools."""
        if law not in self._allowed:
            clusters = self.problem.cluster_by_id
            self._allowed[law] = {
                cluster_id: not lawful(deployment, pool, clusters[cluster_id])
                and not locatable(deployment, pool, clusters[cluster_id])
                for cluster_id, pool in {pool.cluster_id: pool for pool in self._pools_in_order}.items()
            }
        return self._allowed[law]

    def _pools_runnable(self, hardware: object, deployment: WantedDeployment) -> Sequence[Pool]:
        """The pools whose machines run it; machines of one kind are asked once."""
        if hardware not in self._runnable:
            clusters = self.problem.cluster_by_id
            asked: dict[object, bool] = {}
            found = []
            for pool in self._pools_in_order:
                machine = (
                    *(pool.gpu_type, pool.gpu_vendor, pool.gpu_memory_gib, pool.precisions),
                    pool.gpus_per_instance,
                )
                if machine not in asked:
                    asked[machine] = not runnable(deployment, pool, clusters[pool.cluster_id])
                if asked[machine]:
                    found.append(pool)
            self._runnable[hardware] = found
        return self._runnable[hardware]

    @cached_property
    def _pools_in_order(self) -> Sequence[Pool]:
        clusters = self.problem.cluster_by_id
        return sorted(
            self.problem.pools, key=lambda pool: (clusters[pool.cluster_id].name, pool.name, pool.pool_id)
        )

    @cached_property
    def survival_by_pool(self) -> Mapping[str, float]:
        """Pool id -> what one replica there counts where losses must be survived."""
        horizon_h = self.problem.weights.spot_horizon_h
        return {
            pool.pool_id: math.exp(-pool.hazard_per_h * horizon_h) if pool.procurement == "spot" else 1.0
            for pool in self.problem.pools
        }

    @cached_property
    def losses_by_pool(self) -> Mapping[str, Mapping[DomainKind, frozenset[str]]]:
        """Pool id -> kind -> the losses of that kind that take it. A spot group counts among the zones.

        Where a cluster's zone (or region) is not recorded, the next wider kind stands for it; and a cluster of unknown
        zone may be in any zone of its region. Both err on losing more.
        """
        return self.memory.of_kind("losses", "all", self._losses)

    def _losses(self) -> Mapping[str, Mapping[DomainKind, frozenset[str]]]:
        zones_by_region: dict[str, set[str]] = {}
        for cluster in self.problem.clusters:
            for region in cluster.domains("region"):
                zones = zones_by_region.setdefault(region, set())
                zones.update(f"zone {name}" for name in cluster.domains("zone"))
        found: dict[str, Mapping[DomainKind, frozenset[str]]] = {}
        for pool in self.problem.pools:
            cluster = self.problem.cluster_by_id[pool.cluster_id]
            losses: dict[DomainKind, frozenset[str]] = {}
            wider: frozenset[str] = frozenset()
            for kind in reversed(KINDS):
                wider = frozenset(f"{kind} {name}" for name in cluster.domains(kind)) or wider
                losses[kind] = wider
            if not cluster.domains("zone"):
                losses["zone"] = wider.union(*(zones_by_region[name] for name in cluster.domains("region")))
            if pool.procurement == "spot":
                names = cluster.domains("zone") or (f"of cluster {cluster.cluster_id}",)
                groups = {f"spot {pool.instance_type_id} in zone {name}" for name in names}
                losses["zone"] |= groups
            found[pool.pool_id] = losses
        return found

    @cached_property
    def widest_losses(self) -> Mapping[Survivability, Mapping[str, tuple[str, ...]]]:
        """Survivability -> pool id -> the losses that take it, without those that another one contains.

        Where a spot group is all that a domain has, the domain's loss stands for both.
        """
        return self.memory.of_kind(
            "losses", "widest", lambda: {level: self._widest(kinds_covered(level)) for level in LEVELS}
        )

    def _widest(self, kinds: Sequence[DomainKind]) -> Mapping[str, tuple[str, ...]]:
        taken: dict[str, set[str]] = {}
        for kind in reversed(kinds):
            for pool_id, losses in self.losses_by_pool.items():
                for loss in sorted(losses[kind], key=lambda loss: (not loss.startswith(kind), loss)):
                    taken.setdefault(loss, set()).add(pool_id)
        widest: list[str] = []
        for loss in sorted(taken, key=lambda loss: -len(taken[loss])):
            if not any(taken[loss] <= taken[wider] for wider in widest):
                widest.append(loss)
        found: dict[str, list[str]] = {}
        for loss in widest:
            for pool_id in taken[loss]:
                found.setdefault(pool_id, []).append(loss)
        return {pool_id: tuple(losses) for pool_id, losses in found.items()}

    @cached_property
    def _weight_by_priority(self) -> Mapping[int, float]:
        """From 1 to less than 2: priority decides inside a kind of wish, and never between kinds (``Weights``)."""
        priorities = sorted({deployment.priority for deployment in self.problem.deployments})
        return {priority: 1 + rank / len(priorities) for rank, priority in enumerate(priorities)}

    def needs(self, deployment: WantedDeployment) -> Needs:
        """What a deployment of the problem needs."""
        name = deployment.deployment_id
        found = self._needs.get(name)
        if found is None:
            facts = (deployment, self.problem.demands_of(name))
            found = self.memory.of("needs", name, facts, lambda: self._needs_of(deployment))
            self._needs[name] = found
        return found

    def wish_micro_usd_per_h(self, deployment: WantedDeployment) -> int:
        """What one hour of ``Weights`` for a broken wish costs.

        The dearest price of a replica that the deployment could get (1 USD/h at least), times 1 for the lowest
        priority in the problem and up to twice that, rank by rank, for higher ones.
        """
        dearest = max(self._dearest_of(deployment), LEAST_WISH_MICRO_USD_PER_H)
        return round(dearest * self._weight_by_priority[deployment.priority])

    def _needs_of(self, deployment: WantedDeployment) -> Needs:
        pools = self.usable(deployment)
        shares = self._shares(deployment, pools)
        replicas = max(1, deployment.min_replicas)
        best = max(shares.values(), default=0.0)
        served = min(1.0, deployment.max_replicas * best) if shares else 0.0
        size = max(replicas, math.ceil(served / best - TOLERANCE)) if shares else replicas
        return Needs(share_by_type=shares, served=served, replicas=replicas, size=size)

    def _dearest_of(self, deployment: WantedDeployment) -> int:
        """The dearest replica in the pools that it could use, which are the same for deployments of one kind."""

        def work_out() -> int:
            prices = [
                replica_micro_usd_per_h(
                    instance_micro_usd_per_h=pool.instance_micro_usd_per_h or 0,
                    gpus_per_instance=pool.gpus_per_instance,
                    gpus=deployment.gpus_per_replica,
                )
                for pool in self.usable(deployment)
            ]
            return max(prices, default=0)

        return self.memory.of("dearest", self.kind(deployment), self._prices, work_out)

    @cached_property
    def _prices(self) -> tuple[int | None, ...]:
        return tuple([pool.instance_micro_usd_per_h for pool in self.problem.pools])

    def _shares(self, deployment: WantedDeployment, pools: Sequence[Pool]) -> Mapping[str, float]:
        demands = self.problem.demands_of(deployment.deployment_id)
        requests_per_s = sum(demand.requests_per_s_p95 for demand in demands)
        tokens_per_s = sum(demand.tokens_per_s_p95 for demand in demands)
        if not requests_per_s and not tokens_per_s:
            return {}
        return {
            profile.instance_type_id: 1
            / max(requests_per_s / profile.requests_per_s, tokens_per_s / profile.tokens_per_s)
            for profile in self._profiles_of(deployment, pools)
        }

    def _profiles_of(
        self, deployment: WantedDeployment, pools: Sequence[Pool]
    ) -> Sequence[PerformanceProfile]:
        """What was measured on the types of ``pools``, which are the same for deployments of one kind."""
        types = dict.fromkeys(pool.instance_type_id for pool in pools)
        return self.memory.of_kind(
            "profiles",
            (self.kind(deployment), deployment.model_version_id),
            lambda: [
                profile
                for profile in (self.problem.profile_of(deployment, one) for one in types)
                if profile is not None
            ],
        )


#: Where a room serves alone ("" where all serve together), and which part of the demand and how many replicas it gives.
_Gift = tuple[str, float, float]


def _law_of(deployment: WantedDeployment) -> tuple[object, ...]:
    """What of a deployment the rules about places look at."""
    return (
        *(deployment.residency, deployment.providers_allowed, deployment.providers_denied),
        deployment.survivability,
    )


def _hardware_of(deployment: WantedDeployment) -> tuple[object, ...]:
    """What of a deployment the rules about machines look at."""
    return (deployment.engine, deployment.precision, deployment.gpus_per_replica, deployment.weights_bytes)


def room_counted(deployment: WantedDeployment, row: Room) -> int:
    """Replicas that a promise may count on: of what may scale to zero and has no demand, a place to start in."""
    if deployment.min_replicas == 0 and row.room_replicas == 0:
        return row.max_replicas
    return row.room_replicas


def kept(index: Index, deployment: WantedDeployment, rows: Sequence[Room]) -> Survivability:
    """The widest survivability, up to the one wished for, that these allocations keep."""
    level: Survivability = "none"
    if deployment.survivability == "none":
        return level
    needs, losses = index.needs(deployment), index.losses_by_pool
    gifts = _gifts(index, deployment, rows, survival=True)
    if not _suffice(needs, [gift for row, gift in zip(rows, gifts, strict=True) if not row.standby]):
        return level
    kinds = kinds_covered(deployment.survivability)
    located = [row.pool_id if losses[row.pool_id][kinds[-1]] else "" for row in rows]
    widest = index.widest_losses[deployment.survivability]
    if _survives(needs, [widest.get(pool_id, ()) for pool_id in located], gifts):
        return deployment.survivability  # most do, and few losses are the widest
    for kind in kinds:
        if not _survives(needs, [losses[row.pool_id][kind] for row in rows], gifts):
            return level
        level = kind
    return level


def _survives(needs: Needs, losses: Sequence[Collection[str]], gifts: Sequence[_Gift]) -> bool:
    """Whether the rest is enough after each loss. ``losses`` take each gift; what none takes counts for nothing."""
    known = [(found, gift) for found, gift in zip(losses, gifts, strict=True) if found]
    for loss in {loss for found, _ in known for loss in found}:
        if not _suffice(needs, [gift for found, gift in known if loss not in found]):
            return False
    return True


def missing_replicas(index: Index, deployment: WantedDeployment, rows: Sequence[Room]) -> int:
    """How many replicas (of those that serve most) demand and ``min_replicas`` lack while nothing is lost."""
    needs = index.needs(deployment)
    serving = [row for row in rows if not row.standby]
    gifts = _gifts(index, deployment, serving, survival=False)
    share, replicas = max(_together(gifts), default=(0.0, 0.0))
    demand_lacks = 0
    if needs.served > 0:
        demand_lacks = math.ceil((1 - share / needs.served) * needs.size - 1e-6)
    return max(0, demand_lacks, math.ceil(needs.replicas - replicas))


def _gifts(
    index: Index, deployment: WantedDeployment, rows: Iterable[Room], *, survival: bool
) -> Sequence[_Gift]:
    """In ``active_passive`` each cluster serves alone."""
    pools, chances = index.problem.pool_by_id, index.survival_by_pool
    needs, one_serves = index.needs(deployment), deployment.posture == "active_passive"
    found = []
    for row in rows:
        pool = pools[row.pool_id]
        replicas = room_counted(deployment, row) * (chances[row.pool_id] if survival else 1.0)
        found.append((pool.cluster_id if one_serves else "", needs.share(pool) * replicas, replicas))
    return found


def _together(gifts: Sequence[_Gift]) -> Iterable[tuple[float, float]]:
    """By where they serve, the part of the demand and the replicas that they give."""
    found: dict[str, tuple[float, float]] = {}
    for where, share, replicas in gifts:
        before_share, before = found.get(where, (0.0, 0.0))
        found[where] = (before_share + share, before + replicas)
    return found.values()


def _suffice(needs: Needs, gifts: Sequence[_Gift]) -> bool:
    for share, replicas in _together(gifts):
        if share >= needs.served - TOLERANCE and replicas >= needs.replicas - TOLERANCE:
            return True
    return False
