"""Which pools a deployment could use, how many of its replicas each could take, and what a replica there costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controlplane.placement.problem import PlacementProblem
from controlplane.placement.rules.capacity import Ledger
from controlplane.placement.rules.cost import leaving_micro_usd_per_h, replica_price
from controlplane.placement.rules.filters import open_to_new
from controlplane.placement.rules.needs import LEVELS, Index
from controlplane.placement.rules.traffic import region_costs, too_far
from controlplane.placement.supply import Cluster, Pool
from controlplane.placement.wishes import Survivability, WantedDeployment


@dataclass(frozen=True, slots=True)
class Terms:
    """What a pool offers to replicas of one size. Money in micro-USD/h for each replica.

    rented:   its rent
    held:     rent and expected interruptions, of one that runs already
    new:      the same and expected refusals, of one that is asked for
    scarce:   what its GPUs are worth to others beyond their rent
    survival: what it counts where losses must be survived
    losses:   by survivability, the losses to be survived that take it, without those that a wider one contains
    order:    which comes first of equally cheap ones
    """

    pool: Pool
    cluster: Cluster
    open: bool
    rented: int
    held: float
    new: float
    scarce: float
    survival: float
    losses: Mapping[Survivability, tuple[str, ...]]
    reserved_gpus: int
    order: tuple[float, str, str]


@dataclass(slots=True)
class Slot:
    """So many replicas in a pool at one price, in the order in which they are preferred.

    each:     what one costs in all, its part of the traffic included, in micro-USD/h
    demand:   part of the demand planned for that one serves (infinite where there is none to serve)
    held:     they run here already
    far:      in a cluster beyond the rule ``latency``
    leaving:  what it costs that one that is held leaves
    """

    terms: Terms
    replicas: int
    each: float
    demand: float
    held: bool
    covered: bool
    far: bool
    leaving: float = 0.0


class Market:
    """Prices and rules of all pools, as one solve sees them. Single owner: the solve that made it."""

    def __init__(self, index: Index, gpu_micro_usd_per_h_by_pool: Mapping[str, int] | None = None) -> None:
        self.index = index
        self._scarce = gpu_micro_usd_per_h_by_pool or {}
        self._terms: dict[int, tuple[Terms, ...]] = {}
        self._terms_by_size: dict[tuple[str, int], Terms] = {}
        self._leaving_by_key: dict[tuple[str, str, int], int] = {}

    @property
    def problem(self) -> PlacementProblem:
        return self.index.problem

    def terms(self, deployment: WantedDeployment) -> tuple[Terms, ...]:
        """The pools that law and hardware allow a deployment, with what they offer it."""
        key = self.index.kind(deployment)
        found = self._terms.get(key)
        if found is None:
            pools = self.index.usable(deployment)
            found = self._terms[key] = tuple(self._terms_at(deployment, pool) for pool in pools)
        return found

    def _terms_at(self, deployment: WantedDeployment, pool: Pool) -> Terms:
        key = (pool.pool_id, deployment.gpus_per_replica)
        if key not in self._terms_by_size:
            self._terms_by_size[key] = self._terms_of(deployment, pool)
        return self._terms_by_size[key]

    def _terms_of(self, deployment: WantedDeployment, pool: Pool) -> Terms:
        problem, weights = self.problem, self.problem.weights
        cluster = problem.cluster_by_id[pool.cluster_id]
        gpus = deployment.gpus_per_replica
        rented = replica_price(problem, pool, gpus)
        held = rented * (1 + pool.hazard_per_h * weights.interruption_h)
        counted_gpus = pool.gpus_per_instance / max(1, pool.gpus_per_instance // gpus)
        return Terms(
            pool=pool,
            cluster=cluster,
            open=not open_to_new(deployment, pool, cluster),
            rented=rented,
            held=held,
            new=held + rented * (1 - pool.obtainability) * weights.refusal_h,
            scarce=counted_gpus * self._scarce.get(pool.pool_id, 0),
            survival=self.index.survival_by_pool[pool.pool_id],
            losses={level: self.index.widest_losses[level].get(pool.pool_id, ()) for level in LEVELS},
            reserved_gpus=problem.tariff_by_pool[pool.pool_id].reserved_gpus,
            order=(pool.hazard_per_h, cluster.name, pool.name),
        )

    def slots(
        self,
        deployment: WantedDeployment,
        ledger: Ledger,
        held: Mapping[str, int],
        *,
        more_instances: Mapping[str, int] | None = None,
    ) -> list[Slot]:
        """What the room that ``ledger`` leaves offers (``held`` must not be in it): first what runs, then by cost.

        ``held`` has an entry for each pool where the deployment runs, also where its minimum is 0. ``more_instances``
        asks what would be if a pool were larger.
        """
        terms = self.terms(deployment)
        gpus, more = deployment.gpus_per_replica, more_instances or {}
        found: list[Slot] = []
        for one, (share, traffic, is_far) in zip(terms, self._served(deployment, terms), strict=True):
            pool_id = one.pool.pool_id
            runs = held.get(pool_id)
            if not one.open and runs is None:
                continue
            room = ledger.headroom(pool_id, gpus, more_instances=more.get(pool_id, 0))
            if room <= 0:
                continue
            each = one.scarce + traffic
            covered = 0
            if one.reserved_gpus:
                covered = min(room, max(0, one.reserved_gpus - ledger.used_gpus(pool_id)) // gpus)
            if runs is not None:
                stays = min(max(1, runs), room)
                slot = Slot(one, stays, each, share, True, covered >= stays, is_far)
                found.append(self._running(deployment, slot, covered))
                room, covered = room - stays, max(0, covered - stays)
            if room > 0 and one.open and share > 0:
                if covered:
                    found.append(Slot(one, covered, each, share, False, True, is_far))
                if room > covered:
                    found.append(Slot(one, room - covered, each + one.new, share, False, False, is_far))
        found.sort(key=_preference)
        return found

    def _served(
        self, deployment: WantedDeployment, terms: Sequence[Terms]
    ) -> Sequence[tuple[float, float, bool]]:
        """By pool the part of the demand that a replica there serves, what its traffic costs, and whether it is far."""

        def work_out() -> Sequence[tuple[float, float, bool]]:
            needs = self.index.needs(deployment)
            traffic = region_costs(self.problem, deployment, {one.cluster.region for one in terms})
            far = self._far(deployment, terms)
            shares = (needs.share(one.pool) / needs.served if needs.served > 0 else _ALL for one in terms)
            return tuple(
                (
                    share,
                    min(share, 1.0) * traffic.get(one.cluster.region, 0.0),
                    one.cluster.cluster_id in far,
                )
                for one, share in zip(terms, shares, strict=True)
            )

        demands = self.problem.demands_of(deployment.deployment_id)
        return self.index.memory.of("served", deployment.deployment_id, (deployment, demands), work_out)

    def _running(self, deployment: WantedDeployment, slot: Slot, covered: int) -> Slot:
        """The slot with what it costs to stay there, and to leave; what a reservation covers of it is paid for."""
        terms = slot.terms
        slot.each += terms.held * max(0, slot.replicas - covered) / slot.replicas
        slot.leaving = self._leaving(deployment, terms)
        return slot

    def _leaving(self, deployment: WantedDeployment, terms: Terms) -> int:
        gpus = deployment.gpus_per_replica
        key = (deployment.model_version_id, terms.pool.pool_id, gpus)
        if key not in self._leaving_by_key:
            self._leaving_by_key[key] = leaving_micro_usd_per_h(self.problem, deployment, terms.pool, gpus)
        return self._leaving_by_key[key]

    def _far(self, deployment: WantedDeployment, terms: Sequence[Terms]) -> set[str]:
        target_s = deployment.slo.ttft_s_p95
        if target_s is None or self.problem.farthest_rtt_s <= target_s:
            return set()
        clusters = {one.cluster.cluster_id: one.cluster for one in terms}
        return {name for name, cluster in clusters.items() if too_far(self.problem, deployment, cluster)}


#: The part of a demand that is not there which any replica serves.
_ALL = float("inf")


def _preference(slot: Slot) -> tuple[bool, float, tuple[float, str, str]]:
    demand = slot.demand
    worth = slot.each if demand >= 1 else slot.each / demand if demand > 0 else float("inf")
    return (not slot.held, worth, slot.terms.order)
