"""Which deployments does an event touch? Two moments of one world compared.

A change of latencies, network prices or of other deployments' costs touches nobody: it is for the next full solve.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from controlplane.placement.greedy.candidates import Market, Terms
from controlplane.placement.problem import PlacementProblem
from controlplane.placement.rules.capacity import Ledger
from controlplane.placement.rules.cost import leaving_micro_usd_per_h
from controlplane.placement.rules.needs import Index, index_of, kept, missing_replicas
from controlplane.placement.supply import Pool
from controlplane.placement.wishes import Demand, WantedDeployment

#: A demand that moved by no more than this part of it is the same demand.
DEMAND_MOVED = 0.2


def touched_by(before: PlacementProblem, after: PlacementProblem) -> frozenset[str]:
    """Ids of the deployments of ``after`` that should be placed anew.

    - New and changed ones, and those whose demand moved by more than ``DEMAND_MOVED``, in all or from one origin.
    - Those whose replicas are no longer what they were, or that run in a pool that was lost, closed, shrunk or made
      dearer, or in a cluster that changed.
    - Where a pool was opened, enlarged or made cheaper, or room was freed: those that lack something and could use it,
      and those that would save there ``hysteresis`` times what a move costs, as far as there is room.
    - Those of a project whose budget changed, and of a model version whose profiles changed. All, if the weights did.
    """
    if before.weights != after.weights:
        return frozenset(after.deployment_by_id)
    touched = set(_changed(before, after))
    worse, better = _pools_changed(before, after)
    touched |= {row.deployment_id for row in after.current if row.pool_id in worse}
    if better:
        touched |= _lacking(after, better, touched)
        touched |= _saving(after, better, touched)
    return frozenset(touched & after.deployment_by_id.keys())


def _changed(before: PlacementProblem, after: PlacementProblem) -> Iterator[str]:
    budgets = {row.project_id for row in set(before.budgets) ^ set(after.budgets)}
    versions = set()
    if before.profiles != after.profiles:
        versions = {row.model_version_id for row in set(before.profiles) ^ set(after.profiles)}
    for deployment in after.deployments:
        name = deployment.deployment_id
        if (
            before.deployment_by_id.get(name) != deployment
            or before.current_of(name) != after.current_of(name)
            or deployment.project_id in budgets
            or deployment.model_version_id in versions
            or _demand_moved(before.demands_of(name), after.demands_of(name))
        ):
            yield name


def _demand_moved(before: Iterable[Demand], after: Iterable[Demand]) -> bool:
    was = {row.origin_region: (row.requests_per_s_p95, row.tokens_per_s_p95) for row in before}
    now = {row.origin_region: (row.requests_per_s_p95, row.tokens_per_s_p95) for row in after}
    if was == now:
        return False
    for unit in (0, 1):
        total_was = sum(rates[unit] for rates in was.values())
        total_now = sum(rates[unit] for rates in now.values())
        allowed = DEMAND_MOVED * total_was
        if abs(total_now - total_was) > allowed:
            return True
        for origin in was.keys() | now.keys():
            if abs(now.get(origin, (0.0, 0.0))[unit] - was.get(origin, (0.0, 0.0))[unit]) > allowed:
                return True
    return False


def _pools_changed(before: PlacementProblem, after: PlacementProblem) -> tuple[set[str], set[str]]:
    """(pools that are worse than they were, pools that offer more or for less), lost ones among the worse."""
    worse = before.pool_by_id.keys() - after.pool_by_id.keys()
    better = after.pool_by_id.keys() - before.pool_by_id.keys()
    for pool_id in before.pool_by_id.keys() & after.pool_by_id.keys():
        was, now = before.pool_by_id[pool_id], after.pool_by_id[pool_id]
        cluster_was = before.cluster_by_id[was.cluster_id]
        cluster_now = after.cluster_by_id[now.cluster_id]
        if replace(cluster_was, closed="", generation=0) != replace(cluster_now, closed="", generation=0):
            worse.add(pool_id)
            better.add(pool_id)
        for old, new in (
            (was.capacity_instances, now.capacity_instances),
            (not (was.closed or cluster_was.closed), not (now.closed or cluster_now.closed)),
            (-_dearness(before, was), -_dearness(after, now)),
        ):
            if new < old:
                worse.add(pool_id)
            if new > old:
                better.add(pool_id)
    return worse, better | _freed(before, after)


def _dearness(problem: PlacementProblem, pool: Pool) -> float:
    if pool.instance_micro_usd_per_h is None:
        return float("inf")
    weights = problem.weights
    risk = pool.hazard_per_h * weights.interruption_h + (1 - pool.obtainability) * weights.refusal_h
    reserved = problem.tariff_by_pool[pool.pool_id].reserved_instances
    return pool.instance_micro_usd_per_h * (1 + risk) * max(0, pool.capacity_instances - reserved)


def _freed(before: PlacementProblem, after: PlacementProblem) -> set[str]:
    """Pools in which less room is taken than before, by what runs or by what is on its way out."""
    taken: dict[str, int] = {}
    for problem, sign in ((before, -1), (after, 1)):
        for row in problem.current:
            taken[row.pool_id] = taken.get(row.pool_id, 0) + sign * row.room_replicas * row.gpus_per_replica
        for gone in problem.occupancies:
            taken[gone.pool_id] = taken.get(gone.pool_id, 0) + sign * gone.replicas * gone.gpus_per_replica
    return {pool_id for pool_id, gpus in taken.items() if gpus < 0} & after.pool_by_id.keys()


def _lacking(problem: PlacementProblem, pool_ids: set[str], touched: set[str]) -> set[str]:
    """Those that do not get all they wish for and could use one of these pools."""
    index = index_of(problem)
    found = set()
    for deployment in problem.deployments:
        if deployment.deployment_id in touched or not _could_use(index, deployment, pool_ids):
            continue
        rows = problem.current_of(deployment.deployment_id)
        if (
            missing_replicas(index, deployment, rows)
            or kept(index, deployment, rows) != deployment.survivability
        ):
            found.add(deployment.deployment_id)
    return found


def _could_use(index: Index, deployment: WantedDeployment, pool_ids: set[str]) -> bool:
    return any(pool.pool_id in pool_ids for pool in index.usable(deployment))


def _saving(problem: PlacementProblem, pool_ids: set[str], touched: set[str]) -> set[str]:
    """Those that would save most by a move to one of these pools, as many as have room there."""
    market = Market(index_of(problem))
    ledger = Ledger(problem.pools)
    for row in problem.current:
        ledger.add(row.pool_id, row.gpus_per_replica, row.room_replicas)
    savers: dict[str, list[tuple[float, str, int]]] = {}
    for deployment in problem.deployments:
        if deployment.deployment_id not in touched:
            for pool_id, saved in _savings(market, deployment, pool_ids):
                savers.setdefault(pool_id, []).append(
                    (
                        -saved / deployment.gpus_per_replica,
                        deployment.deployment_id,
                        deployment.gpus_per_replica,
                    )
                )
    found = set()
    for pool_id, offers in savers.items():
        for _, deployment_id, gpus in sorted(offers):
            if ledger.headroom(pool_id, gpus) > 0:
                ledger.add(pool_id, gpus, 1)
                found.add(deployment_id)
    return found


def _savings(market: Market, deployment: WantedDeployment, pool_ids: set[str]) -> Iterator[tuple[str, float]]:
    """(pool, what a replica of it saves there an hour) of moves that are worth more than they cost."""
    problem, needs = market.problem, market.index.needs(deployment)
    terms = {one.pool.pool_id: one for one in market.terms(deployment)}

    def worth(one: Terms, cost: float) -> float:
        share = needs.share(one.pool) if needs.served > 0 else 1.0
        return cost / share if share > 0 else float("inf")

    held = [
        terms[row.pool_id] for row in problem.current_of(deployment.deployment_id) if row.pool_id in terms
    ]
    if not held:
        return
    dearest = max(held, key=lambda one: worth(one, one.held))
    leaving = leaving_micro_usd_per_h(problem, deployment, dearest.pool, deployment.gpus_per_replica)
    least = worth(dearest, problem.weights.hysteresis * leaving)
    for pool_id in pool_ids & terms.keys():
        one = terms[pool_id]
        saved = worth(dearest, dearest.held) - worth(one, one.new)
        if one.open and pool_id != dearest.pool.pool_id and saved > least:
            yield pool_id, saved
