"""What goes wrong, and when: made from a seed before anything is planned, so that every planner meets the same."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from controlplane.placement import FailureDomain, PlacementProblem

S_PER_H = 3600.0
#: A pool, zone or region is lost for so long (uniform between the two).
OUTAGE_S = (1200.0, 5400.0)
#: Reclaimed spot capacity is to be had again after so long.
RECLAIMED_S = (900.0, 3600.0)


@dataclass(frozen=True, slots=True)
class CapacityLost:
    """Of each of these pools so many instances are gone, until ``back_s``. ``domain``: what failed, where one did."""

    at_s: float
    back_s: float
    instances_by_pool: Mapping[str, int]
    domain: FailureDomain | None
    what: str


@dataclass(frozen=True, slots=True)
class DemandMoved:
    """Deployments ask for so many times what they asked for at first, now and in the planned peak."""

    at_s: float
    factor_by_deployment: Mapping[str, float]


Incident = CapacityLost | DemandMoved


def incidents_of(
    problem: PlacementProblem,
    rng: Random,
    *,
    hours: float,
    pools_lost: int = 2,
    zones_lost: int = 2,
    regions_lost: int = 1,
) -> tuple[Incident, ...]:
    """So many losses at random times, spot reclaimed as its hazard says, demand that moves every hour; by time."""
    found: list[Incident] = []
    for kind, count in (("zone", zones_lost), ("region", regions_lost)):
        domains = sorted(
            {
                str(domain): domain
                for cluster in problem.clusters
                for domain in cluster.failure_domains
                if domain.kind == kind
            }.items()
        )
        lost = rng.choices(domains, k=count) if domains else []
        found += [_domain_lost(problem, rng, domain, hours) for _, domain in lost]
    for pool in rng.sample(problem.pools, min(pools_lost, len(problem.pools))):
        at_s = rng.uniform(0, hours * S_PER_H)
        gone = {pool.pool_id: pool.capacity_instances}
        found.append(CapacityLost(at_s, at_s + rng.uniform(*OUTAGE_S), gone, None, f"pool {pool.name} lost"))
    found += _spot_reclaimed(problem, rng, hours)
    found += _demand_moves(problem, rng, hours)
    return tuple(sorted(found, key=lambda incident: incident.at_s))


def _domain_lost(problem: PlacementProblem, rng: Random, domain: FailureDomain, hours: float) -> CapacityLost:
    at_s = rng.uniform(0, hours * S_PER_H)
    gone = {
        pool.pool_id: pool.capacity_instances
        for pool in problem.pools
        if domain in problem.cluster_by_id[pool.cluster_id].failure_domains
    }
    return CapacityLost(at_s, at_s + rng.uniform(*OUTAGE_S), gone, domain, f"{domain} lost")


def _spot_reclaimed(problem: PlacementProblem, rng: Random, hours: float) -> list[Incident]:
    """Reclaims come together: a few a day in each pool, of a part of it, as many as its hazard expects in sum."""
    found: list[Incident] = []
    for pool in problem.pools:
        if pool.procurement != "spot" or pool.hazard_per_h <= 0:
            continue
        part = rng.uniform(0.15, 0.5)
        at_s = rng.expovariate(pool.hazard_per_h / part) * S_PER_H
        while at_s < hours * S_PER_H:
            gone = {pool.pool_id: math.ceil(pool.capacity_instances * part)}
            back_s = at_s + rng.uniform(*RECLAIMED_S)
            found.append(CapacityLost(at_s, back_s, gone, None, f"spot of {pool.name} reclaimed"))
            at_s += rng.expovariate(pool.hazard_per_h / part) * S_PER_H
    return found


def _demand_moves(problem: PlacementProblem, rng: Random, hours: float) -> list[Incident]:
    """Every hour one deployment in twenty asks for more or less."""
    asked: Sequence[str] = sorted({row.deployment_id for row in problem.demands})
    found: list[Incident] = []
    for hour in range(1, math.ceil(hours)):
        moved = rng.sample(asked, min(len(asked), max(1, len(asked) // 20)))
        factors = {deployment_id: rng.uniform(0.6, 1.3) for deployment_id in moved}
        found.append(DemandMoved(hour * S_PER_H, factors))
    return found
