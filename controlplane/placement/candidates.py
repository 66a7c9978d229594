"""Which pools a deployment could use, and how many of its replicas each could take."""

from collections.abc import Mapping
from dataclasses import dataclass

from controlplane.costing import replica_micro_usd_per_h
from controlplane.placement.capacity import Ledger
from controlplane.placement.filters import lawful, open_to_new, suitable
from controlplane.placement.problem import Cluster, PlacementProblem, Pool, WantedDeployment


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A pool that may carry a deployment.

    held:     replicas promised here already: they stay for as long as nothing forces them away
    limit:    replicas that fit here now
    domains:  the failure domains, of the kind that must be survived, that its cluster is in
    covered:  of the replicas that fit, how many a reservation pays for already
    """

    pool: Pool
    cluster: Cluster
    held: int
    limit: int
    domains: tuple[str, ...]
    covered: int
    replica_micro_usd_per_h: int
    expected_micro_usd_per_h: int


@dataclass(frozen=True, slots=True)
class Slot:
    """So many replicas in a pool at one price. Choosing is taking from slots in their order."""

    candidate: Candidate
    replicas: int
    held: bool
    expected_micro_usd_per_h: int


def candidates(
    problem: PlacementProblem,
    deployment: WantedDeployment,
    ledger: Ledger,
    held: Mapping[str, int],
    *,
    more_instances: Mapping[str, int] | None = None,
) -> tuple[Candidate, ...]:
    """Pools that pass every rule, with the room that ``ledger`` leaves (``held`` must not be in it).

    ``held`` has an entry for each pool where the deployment runs, also where its minimum is 0. ``more_instances``
    asks what would be if a pool were larger.
    """
    found = []
    for pool in problem.pools:
        cluster = problem.cluster_by_id[pool.cluster_id]
        if lawful(deployment, pool, cluster) or suitable(deployment, pool, cluster):
            continue
        limit = ledger.headroom(
            pool.pool_id,
            deployment.gpus_per_replica,
            more_instances=(more_instances or {}).get(pool.pool_id, 0),
        )
        if open_to_new(deployment, pool, cluster):
            if pool.pool_id not in held:
                continue
            limit = min(limit, max(1, held[pool.pool_id]))
        if limit > 0:
            found.append(
                _candidate(problem, deployment, ledger, pool, held=held.get(pool.pool_id), limit=limit)
            )
    return tuple(found)


def _candidate(
    problem: PlacementProblem,
    deployment: WantedDeployment,
    ledger: Ledger,
    pool: Pool,
    *,
    held: int | None,
    limit: int,
) -> Candidate:
    cluster = problem.cluster_by_id[pool.cluster_id]
    tariff = problem.tariff_by_pool[pool.pool_id]
    free_reserved_gpus = max(0, tariff.reserved_gpus - ledger.used_gpus(pool.pool_id))
    price = replica_micro_usd_per_h(
        instance_micro_usd_per_h=tariff.instance_micro_usd_per_h,
        gpus_per_instance=pool.gpus_per_instance,
        gpus=deployment.gpus_per_replica,
    )
    return Candidate(
        pool=pool,
        cluster=cluster,
        held=0 if held is None else min(max(1, held), limit),
        limit=limit,
        domains=() if deployment.survivability == "none" else cluster.domains(deployment.survivability),
        covered=min(limit, free_reserved_gpus // deployment.gpus_per_replica),
        replica_micro_usd_per_h=price,
        expected_micro_usd_per_h=round(price * (1 + pool.hazard_per_h * problem.weights.interruption_h)),
    )


def slots(found: tuple[Candidate, ...]) -> tuple[Slot, ...]:
    """The candidates cut by price: what runs already first, then what is paid for, then the cheapest."""
    cut: list[Slot] = []
    for candidate in found:
        free = candidate.limit - candidate.held
        covered = min(free, max(0, candidate.covered - candidate.held))
        parts = (
            Slot(candidate, candidate.held, True, candidate.expected_micro_usd_per_h),
            Slot(candidate, covered, False, 0),
            Slot(candidate, free - covered, False, candidate.expected_micro_usd_per_h),
        )
        cut.extend(part for part in parts if part.replicas > 0)
    return tuple(sorted(cut, key=_preference))


def _preference(slot: Slot) -> tuple[bool, int, float, str, str]:
    candidate = slot.candidate
    return (
        not slot.held,
        slot.expected_micro_usd_per_h,
        candidate.pool.hazard_per_h,
        candidate.cluster.name,
        candidate.pool.name,
    )
