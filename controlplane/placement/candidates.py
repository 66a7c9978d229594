"""Which pools a deployment could use, how many of its replicas each could take, and what a replica there costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controlplane.placement.capacity import Ledger
from controlplane.placement.cost import leaving_micro_usd_per_h, replica_price
from controlplane.placement.filters import open_to_new
from controlplane.placement.needs import LEVELS, Index, Needs, kinds_covered
from controlplane.placement.problem import Cluster, PlacementProblem, Pool, Survivability, WantedDeployment
from controlplane.placement.traffic import region_costs, too_far


@dataclass(frozen=True, slots=True)
class Terms:
    """What a pool offers to replicas of one size. Money in micro-USD/h for each replica.

    rented:   its rent
    held:     rent and expected interruptions, of one that runs already
    new:      the same and expected refusals, of one that is asked for
    scarce:   what its GPUs are worth to others beyond their rent
    survival: what it counts where losses must be survived
    losses:   by survivability, the losses to be survived that take it
    """

    pool: Pool
    cluster: Cluster
    open: bool
    rented: int
    held: float
    new: float
    scarce: float
    survival: float
    losses: Mapping[Survivability, frozenset[str]]


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
        self._terms: dict[tuple[int, int], tuple[Terms, ...]] = {}
        self._terms_by_size: dict[tuple[str, int], Terms] = {}

    @property
    def problem(self) -> PlacementProblem:
        return self.index.problem

    def terms(self, deployment: WantedDeployment) -> tuple[Terms, ...]:
        """The pools that law and hardware allow a deployment, with what they offer it."""
        pools = self.index.usable(deployment)
        key = (
            id(pools),
            deployment.gpus_per_replica,
        )  # the index keeps one tuple for deployments of one kind
        found = self._terms.get(key)
        if found is None:
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
        losses = self.index.losses_by_pool[pool.pool_id]
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
            losses={
                level: frozenset[str]().union(*(losses[kind] for kind in kinds_covered(level)))
                for level in LEVELS
            },
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
        needs = self.index.needs(deployment)
        terms = self.terms(deployment)
        traffic = region_costs(self.problem, deployment, {one.cluster.region for one in terms})
        far = self._far(deployment, terms)
        found: list[Slot] = []
        for one in terms:
            pool_id = one.pool.pool_id
            if not one.open and pool_id not in held:
                continue
            more = more_instances.get(pool_id, 0) if more_instances else 0
            room = ledger.headroom(pool_id, deployment.gpus_per_replica, more_instances=more)
            if room > 0:
                found.extend(
                    self._cut(
                        deployment,
                        one,
                        needs,
                        room=room,
                        held=held.get(pool_id),
                        free_reserved_gpus=self._free_reserved_gpus(one.pool, ledger),
                        traffic=traffic.get(one.cluster.region, 0.0),
                        far=one.cluster.cluster_id in far,
                    )
                )
        found.sort(key=_preference)
        return found

    def _far(self, deployment: WantedDeployment, terms: Sequence[Terms]) -> set[str]:
        if deployment.slo.ttft_s_p95 is None:
            return set()
        clusters = {one.cluster.cluster_id: one.cluster for one in terms}
        return {name for name, cluster in clusters.items() if too_far(self.problem, deployment, cluster)}

    def _free_reserved_gpus(self, pool: Pool, ledger: Ledger) -> int:
        reserved_gpus = self.problem.tariff_by_pool[pool.pool_id].reserved_gpus
        return max(0, reserved_gpus - ledger.used_gpus(pool.pool_id)) if reserved_gpus else 0

    def _cut(
        self,
        deployment: WantedDeployment,
        terms: Terms,
        needs: Needs,
        *,
        room: int,
        held: int | None,
        free_reserved_gpus: int,
        traffic: float,
        far: bool,
    ) -> list[Slot]:
        """One pool's room by price: what runs already, what is paid for, what is rented."""
        gpus = deployment.gpus_per_replica
        share = needs.share(terms.pool) / needs.served if needs.served > 0 else float("inf")
        stays = 0 if held is None else min(max(1, held), room)
        covered = min(room, free_reserved_gpus // gpus)
        sent = min(share, 1.0) * traffic if traffic else 0.0
        cut = []
        if stays:
            paid = min(stays, covered)
            each = terms.held * (stays - paid) / stays
            leaving = leaving_micro_usd_per_h(self.problem, deployment, terms.pool, gpus)
            cut.append(
                Slot(terms, stays, each + terms.scarce + sent, share, True, paid == stays, far, leaving)
            )
        free = room - stays
        if free <= 0 or not terms.open or share == 0:
            return cut
        paid = min(free, max(0, covered - stays))
        if paid:
            cut.append(Slot(terms, paid, terms.scarce + sent, share, False, True, far))
        if free > paid:
            cut.append(Slot(terms, free - paid, terms.new + terms.scarce + sent, share, False, False, far))
        return cut


def _preference(slot: Slot) -> tuple[bool, float, float, str, str]:
    terms = slot.terms
    worth = slot.each if slot.demand >= 1 else slot.each / slot.demand if slot.demand > 0 else float("inf")
    return (not slot.held, worth, terms.pool.hazard_per_h, terms.cluster.name, terms.pool.name)
