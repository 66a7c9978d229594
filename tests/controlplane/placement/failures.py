"""Losing a failure domain by hand: a separate, dumb simulation against which the certificate is held.

Every replica is an object. Those in the domain are removed one by one; the demand is handed to the others one by one,
in exact fractions. Shares no line with what it judges.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import product

from controlplane.placement import (
    Allocation,
    PlacementPlan,
    PlacementProblem,
    Pool,
    Promise,
    WantedDeployment,
    certify,
)

MILLIONTH = Fraction(1, 1_000_000)


@dataclass
class Replica:
    """One replica: where it is, what of the whole demand it serves, its chance to be there."""

    cluster: str
    standby: bool
    serves: Fraction
    chance: Fraction
    fails_with: list[str]
    recorded: list[str]


@dataclass
class Outcome:
    """What the others served of the demand, how many they were (as expected), and whether that was enough."""

    served: Fraction
    replicas: Fraction
    survives: bool


def labels(problem: PlacementProblem, pool: Pool) -> list[str]:
    """Everything that a pool fails with."""
    cluster = problem.cluster_by_id[pool.cluster_id]
    found = [f"{domain.kind} {domain.name}" for domain in cluster.failure_domains]
    if pool.procurement == "spot":
        zones = [domain.name for domain in cluster.failure_domains if domain.kind == "zone"]
        found += [f"spot group {pool.instance_type}@{zone}" for zone in zones or [cluster.name]]
    found += [f"cluster {cluster.name}", f"pool {cluster.name}/{pool.name}"]
    return found


def replicas_of(
    problem: PlacementProblem, plan: PlacementPlan, deployment: WantedDeployment
) -> list[Replica]:
    """Those that count of one deployment, one by one."""
    rates = _rates(problem, deployment)
    made = []
    for row in plan.by_deployment[deployment.deployment_id].allocations:
        pool = problem.pool_by_id[row.pool_id]
        cluster = problem.cluster_by_id[pool.cluster_id]
        chance = Fraction(1)
        if pool.procurement == "spot" and deployment.survivability != "none":
            chance = Fraction(math.exp(-pool.hazard_per_h * problem.weights.spot_horizon_h))
        count = _that_count(deployment, row, by_demand=rates is not None)
        made += [
            Replica(
                cluster=cluster.cluster_id,
                standby=row.standby,
                serves=_serves(problem, deployment, pool, row, rates),
                chance=chance,
                fails_with=labels(problem, pool),
                recorded=[f"{domain.kind} {domain.name}" for domain in cluster.failure_domains],
            )
            for _ in range(count)
        ]
    return made


def _that_count(deployment: WantedDeployment, row: Allocation, *, by_demand: bool) -> int:
    with_room = row.min_replicas if row.min_replicas > row.planned_replicas else row.planned_replicas
    scales_to_zero = deployment.min_replicas == 0
    if scales_to_zero and with_room == 0 and not by_demand:
        return row.max_replicas
    if scales_to_zero or deployment.survivability == "none":
        return with_room
    return row.min_replicas


def _rates(problem: PlacementProblem, deployment: WantedDeployment) -> tuple[Fraction, Fraction] | None:
    """Requests and tokens a second, or None where nothing turns them into replicas."""
    requests = tokens = Fraction(0)
    for demand in problem.demands:
        if demand.deployment_id == deployment.deployment_id:
            requests += Fraction(demand.requests_per_s_p95)
            tokens += Fraction(demand.tokens_per_s_p95)
    if requests == 0 and tokens == 0:
        return None
    for pool in problem.pools:
        cluster = problem.cluster_by_id[pool.cluster_id]
        if deployment.residency and cluster.jurisdiction not in deployment.residency:
            continue
        if cluster.provider in deployment.providers_denied:
            continue
        if deployment.providers_allowed and cluster.provider not in deployment.providers_allowed:
            continue
        if (
            deployment.precision not in pool.precisions
            or deployment.gpus_per_replica > pool.gpus_per_instance
        ):
            continue
        kinds = [domain.kind for domain in cluster.failure_domains]
        if deployment.survivability != "none" and deployment.survivability not in kinds:
            continue
        for profile in problem.profiles:
            if (profile.model_version_id, profile.instance_type_id, profile.tensor_parallel) == (
                deployment.model_version_id,
                pool.instance_type_id,
                deployment.gpus_per_replica,
            ):
                return requests, tokens
    return None


def _serves(
    problem: PlacementProblem,
    deployment: WantedDeployment,
    pool: Pool,
    row: Allocation,
    rates: tuple[Fraction, Fraction] | None,
) -> Fraction:
    if rates is None:
        return Fraction(1, max(1, deployment.min_replicas))
    for profile in problem.profiles:
        if (profile.model_version_id, profile.instance_type_id, profile.tensor_parallel) == (
            deployment.model_version_id,
            pool.instance_type_id,
            row.gpus_per_replica,
        ):
            hours = []  # how much of the demand, by each of its two measures
            if rates[0] > 0:
                hours.append(Fraction(profile.requests_per_s) / rates[0])
            if rates[1] > 0:
                hours.append(Fraction(profile.tokens_per_s) / rates[1])
            return min(hours)
    return Fraction(0)


def lose(problem: PlacementProblem, plan: PlacementPlan, deployment: WantedDeployment, *lost: str) -> Outcome:
    """Remove what is in any of these domains (``region us``), and serve the demand with the others."""
    standing = replicas_of(problem, plan, deployment)
    for label in lost:
        kind = label.split(" ", maxsplit=1)[0]
        for replica in list(standing):
            if label in replica.fails_with or _may_be_there(problem, replica, kind, label):
                standing.remove(replica)
    if deployment.posture == "active_active":
        return _serve(deployment, [replica for replica in standing if not replica.standby])
    outcomes = []
    for cluster in {replica.cluster for replica in standing}:
        here = [replica for replica in standing if replica.cluster == cluster]
        if not lost:
            here = [replica for replica in here if not replica.standby]
        outcomes.append(_serve(deployment, here))
    outcomes.sort(key=lambda outcome: (outcome.survives, outcome.served, outcome.replicas))
    return outcomes[-1] if outcomes else _serve(deployment, [])


def _may_be_there(problem: PlacementProblem, replica: Replica, kind: str, label: str) -> bool:
    """Nobody knows this replica's zone (region, provider), and what is known does not put it elsewhere."""
    if kind not in ("zone", "region", "provider"):
        return False
    if any(one.startswith(f"{kind} ") for one in replica.recorded):
        return False
    wider = {"zone": ("region", "provider"), "region": ("provider",), "provider": ()}[kind]
    neighbours = [
        [f"{domain.kind} {domain.name}" for domain in cluster.failure_domains] for cluster in problem.clusters
    ]
    there = [one for names in neighbours if label in names for one in names]
    for one in wider:
        mine = [name for name in replica.recorded if name.startswith(f"{one} ")]
        theirs = [name for name in there if name.startswith(f"{one} ")]
        if mine and theirs and not set(mine) & set(theirs):
            return False
    return True


def _serve(deployment: WantedDeployment, replicas: list[Replica]) -> Outcome:
    left, count, served = Fraction(1), Fraction(0), Fraction(0)
    for replica in replicas:
        taken = replica.serves * replica.chance
        left -= taken
        served += taken
        count += replica.chance
    needed = max(1, deployment.min_replicas)
    return Outcome(served, count, left <= MILLIONTH and count >= needed - MILLIONTH)


def packs_exactly(instances: int, gpus_per_instance: int, sizes: list[int]) -> bool:
    """Whether replicas of these sizes fit, by trying every way. For a handful of them."""

    def put(free: list[int], left: list[int]) -> bool:
        if not left:
            return True
        tried = set()
        for index, room in enumerate(free):
            if room >= left[0] and room not in tried:
                tried.add(room)
                free[index] -= left[0]
                if put(free, left[1:]):
                    return True
                free[index] += left[0]
        return False

    return put([gpus_per_instance] * instances, sorted(sizes, reverse=True))


def disagreements(problem: PlacementProblem, plan: PlacementPlan) -> Iterator[str]:
    """Where certificate and simulation say different things about a plan."""
    certificate = certify(problem, plan)
    found = {(loss.deployment_id, str(loss.domain)): loss for loss in certificate.losses}
    for deployment in problem.deployments:
        touched = {label for one in _used_pools(problem, plan, deployment) for label in labels(problem, one)}
        for label in sorted(touched):
            if label.split(" ", maxsplit=1)[0] in ("cluster", "pool"):
                continue
            loss = found.pop((deployment.deployment_id, label), None)
            outcome = lose(problem, plan, deployment, label)
            if loss is None:
                yield f"{deployment.name}, {label}: not in the certificate"
            elif (loss.verdict == "survives") != outcome.survives or loss.promised != _promised(
                deployment, label
            ):
                yield f"{deployment.name}, {label}: {loss} against {outcome}"
            elif abs(loss.share_left - outcome.served) > 1e-9 * max(1.0, float(outcome.served)):
                yield f"{deployment.name}, {label}: {loss.share_left} of demand against {float(outcome.served)}"
            elif abs(loss.replicas_left - outcome.replicas) > 1e-9:
                yield f"{deployment.name}, {label}: {loss.replicas_left} replicas against {outcome.replicas}"
    for loss in found.values():
        if loss.domain.name != "not recorded":
            yield f"{loss.deployment}: {loss.domain} does not touch it"
    for promise in certificate.promises:
        if promise.kept != _kept(problem, plan, problem.deployment_by_id[promise.deployment_id]):
            yield f"{promise.deployment}: kept {promise.kept}"
    yield from _domain_disagreements(problem, plan)


def _used_pools(problem: PlacementProblem, plan: PlacementPlan, deployment: WantedDeployment) -> list[Pool]:
    rows = plan.by_deployment[deployment.deployment_id].allocations
    return [problem.pool_by_id[row.pool_id] for row in rows]


def _promised(deployment: WantedDeployment, label: str) -> bool:
    kind = label.split(" ", maxsplit=1)[0]
    return {
        "none": False,
        "zone": kind in ("zone", "spot"),
        "region": kind in ("zone", "spot", "region"),
        "provider": kind in ("zone", "spot", "region", "provider"),
    }[deployment.survivability]


def _kept(problem: PlacementProblem, plan: PlacementPlan, deployment: WantedDeployment) -> bool:
    """Lose nothing, then everything that there is in the world and that was promised."""
    if plan.by_deployment[deployment.deployment_id].refusal is not None:
        return False
    used = _used_pools(problem, plan, deployment)
    world = {label for one in problem.pools for label in labels(problem, one) if _promised(deployment, label)}
    kind = deployment.survivability
    if kind != "none" and any(not problem.cluster_by_id[one.cluster_id].domains(kind) for one in used):
        world.add(f"{kind} somewhere")
    own = {label for one in used for label in labels(problem, one)}
    everything = [label for label in sorted(world) if label in own or "somewhere" in label]
    return lose(problem, plan, deployment).survives and all(
        lose(problem, plan, deployment, label).survives for label in everything
    )


def _domain_disagreements(problem: PlacementProblem, plan: PlacementPlan) -> Iterator[str]:
    certificate = certify(problem, plan)
    weights = {
        deployment.deployment_id: sum(
            (
                Fraction(demand.requests_per_s_p95)
                for demand in problem.demands
                if demand.deployment_id == deployment.deployment_id
            ),
            Fraction(0),
        )
        for deployment in problem.deployments
    }
    if not any(weights.values()):
        weights = dict.fromkeys(weights, Fraction(1))
    for domain in certificate.domains:
        if domain.domain.name == "not recorded":
            continue
        served = Fraction(0)
        for deployment in problem.deployments:
            hit = any(
                str(domain.domain) in labels(problem, one) for one in _used_pools(problem, plan, deployment)
            )
            outcome = lose(problem, plan, deployment, *([str(domain.domain)] if hit else []))
            served += weights[deployment.deployment_id] * min(Fraction(1), outcome.served)
        if abs(domain.served_share - served / sum(weights.values())) > 1e-9:
            yield f"{domain.domain}: {domain.served_share} of all demand against {float(served)}"


def price_by_trying(problem: PlacementProblem, plan: PlacementPlan, promise: Promise) -> Fraction:
    """The bill now, less the bill with the cheapest subset that serves the demand: every subset is tried."""
    deployment = problem.deployment_by_id[promise.deployment_id]
    if deployment.survivability == "none":
        return Fraction(0)
    rates = _rates(problem, deployment)
    rows = plan.by_deployment[promise.deployment_id].allocations
    serves = [_serves(problem, deployment, problem.pool_by_id[row.pool_id], row, rates) for row in rows]
    cheapest: Fraction | None = None
    for counts in product(*(range(1 if row.standby else row.room_replicas + 1) for row in rows)):
        served = sum((each * count for each, count in zip(serves, counts, strict=True)), Fraction(0))
        if served >= 1 - MILLIONTH and sum(counts) >= max(1, deployment.min_replicas):
            bill = _bill(problem, plan, promise.deployment_id, counts)
            cheapest = bill if cheapest is None else min(cheapest, bill)
    if cheapest is None:
        return Fraction(0)
    return _bill(problem, plan, promise.deployment_id, [row.room_replicas for row in rows]) - cheapest


def _bill(
    problem: PlacementProblem, plan: PlacementPlan, deployment_id: str, counts: tuple[int, ...] | list[int]
) -> Fraction:
    """What all rooms add to it, one deployment having these replicas."""
    total = Fraction(0)
    for pool in problem.pools:
        gpus = 0
        for entry in plan.deployments:
            for number, row in enumerate(entry.allocations):
                if row.pool_id == pool.pool_id:
                    replicas = counts[number] if entry.deployment_id == deployment_id else row.room_replicas
                    gpus += replicas * row.gpus_per_replica
        reserved = sum(one.instances for one in problem.reservations if one.pool_id == pool.pool_id)
        rented = max(0, gpus - reserved * pool.gpus_per_instance)
        total += rented * Fraction(pool.instance_micro_usd_per_h or 0, pool.gpus_per_instance)
    return total


#: A plan that says one of these may serve less than the demand, or fewer replicas than wished.
_ADMIT_LESS = {"max_replicas", "replicas"}


def untruths(problem: PlacementProblem, plan: PlacementPlan) -> Iterator[str]:
    """Promises and rules that a plan breaks without saying so. Hard rules are never to be broken, said or not."""
    certificate = certify(problem, plan)
    for promise in certificate.promises:
        said = set(promise.admitted)
        refused = plan.by_deployment[promise.deployment_id].refusal is not None
        if promise.kept or refused or "survivability" in said or said & _ADMIT_LESS:
            continue
        yield (
            f"{promise.deployment} is said to be placed ({', '.join(said) or 'nothing relaxed'}): "
            + "; ".join(
                line for line in certificate.broken_promises if line.startswith(f"{promise.deployment}:")
            )
        )
    yield from map(str, certificate.broken_rules)
