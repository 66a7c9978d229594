"""Which deployments does an event touch, and whom does its plan leave with less? Two moments of one world compared.

A change of latencies, network prices or of other deployments' costs touches nobody: it is for the next full solve.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from controlplane.placement.greedy.candidates import Market, Terms
from controlplane.placement.plan import DeploymentPlan, PlacementPlan
from controlplane.placement.problem import PlacementProblem
from controlplane.placement.rules.capacity import Ledger
from controlplane.placement.rules.cost import leaving_micro_usd_per_h
from controlplane.placement.rules.needs import Index, index_of, kept, missing_replicas
from controlplane.placement.rules.occupancy import outgoing
from controlplane.placement.supply import CurrentAssignment, Pool
from controlplane.placement.wishes import Demand, WantedDeployment

#: A demand that moved by no more than this part of it is the same demand.
DEMAND_MOVED = 0.2


def touched_by(before: PlacementProblem, after: PlacementProblem) -> frozenset[str]:
    """Ids of the deployments of ``after`` that should be placed anew.

    - New and changed ones, and those whose demand moved by more than ``DEMAND_MOVED``, in all or from one origin.
    - Those whose replicas are no longer what they were, or that run in a cluster that changed, or in a pool that was
      lost, closed, made dearer, or shrank and has no longer room for all that is there.
    - Where a pool was opened, enlarged or made cheaper, or room was freed: those that lack something and could use it,
      and those that would save there ``hysteresis`` times what a move costs, as far as there is room.
    - Those of a project whose budget changed, and of a model version whose profiles changed. All, if the weights did.
    """
    index_of(after, former=before)
    if before.weights != after.weights:
        return frozenset(after.deployment_by_id)
    touched = set(_changed(before, after))
    worse, shrunk, better = _pools_changed(before, after)
    ledger = _ledger(after)
    worse |= {pool_id for pool_id in shrunk if not ledger.holds(pool_id)}
    touched |= {row.deployment_id for row in after.current if row.pool_id in worse}
    better &= _with_room(after, ledger)
    if better:
        touched |= _lacking(after, better, touched)
        touched |= _saving(after, ledger, better, touched)
    return frozenset(touched & after.deployment_by_id.keys())


def to_place_anew(plan: PlacementPlan, before: PlacementProblem, after: PlacementProblem) -> frozenset[str]:
    """Ids of the deployments of ``after`` that are placed anew at an event.

    Those that it touches (``touched_by``), and all that lack a wish by ``plan``, the one in force until now: it may
    itself have freed the room that they wait for. ``before``: the problem that it answered, with it carried out.
    """
    lacking = {entry.deployment_id for entry in plan.deployments if _given_up(entry)}
    return touched_by(before, after) | (lacking & after.deployment_by_id.keys())


def newly_lacking(
    before: PlacementPlan | None, after: PlacementPlan, deployment_ids: Collection[str]
) -> set[str]:
    """Which of these deployments (ids) are refused, or lack a wish, by ``after`` and did not by ``before``."""
    was = before.by_deployment if before is not None else {}
    return {
        entry.deployment_id
        for entry in after.deployments
        if entry.deployment_id in deployment_ids
        and _given_up(entry) - _given_up(was.get(entry.deployment_id))
    }


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


def _demand_moved(before: Sequence[Demand], after: Sequence[Demand]) -> bool:
    if before == after:
        return False
    was = {row.origin_region: (row.requests_per_s_p95, row.tokens_per_s_p95) for row in before}
    now = {row.origin_region: (row.requests_per_s_p95, row.tokens_per_s_p95) for row in after}
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


def _pools_changed(before: PlacementProblem, after: PlacementProblem) -> tuple[set[str], set[str], set[str]]:
    """Pools that are worse than they were, lost ones too; smaller ones; those that offer more or for less."""
    worse = before.pool_by_id.keys() - after.pool_by_id.keys()
    better = after.pool_by_id.keys() - before.pool_by_id.keys()
    shrunk = set()
    for pool_id in before.pool_by_id.keys() & after.pool_by_id.keys():
        was, now = before.pool_by_id[pool_id], after.pool_by_id[pool_id]
        cluster_was = before.cluster_by_id[was.cluster_id]
        cluster_now = after.cluster_by_id[now.cluster_id]
        if replace(cluster_was, closed="", generation=0) != replace(cluster_now, closed="", generation=0):
            worse.add(pool_id)
            better.add(pool_id)
        if now.capacity_instances < was.capacity_instances:
            shrunk.add(pool_id)
        if now.capacity_instances > was.capacity_instances:
            better.add(pool_id)
        for old, new in (
            (not (was.closed or cluster_was.closed), not (now.closed or cluster_now.closed)),
            (-_dearness(before, was), -_dearness(after, now)),
            (_reserved(before, was), _reserved(after, now)),
        ):
            if new < old:
                worse.add(pool_id)
            if new > old:
                better.add(pool_id)
    return worse, shrunk, better | _freed(before, after)


def _dearness(problem: PlacementProblem, pool: Pool) -> float:
    if pool.instance_micro_usd_per_h is None:
        return float("inf")
    weights = problem.weights
    risk = pool.hazard_per_h * weights.interruption_h + (1 - pool.obtainability) * weights.refusal_h
    return pool.instance_micro_usd_per_h * (1 + risk)


def _reserved(problem: PlacementProblem, pool: Pool) -> int:
    return problem.tariff_by_pool[pool.pool_id].reserved_instances


def _with_room(problem: PlacementProblem, ledger: Ledger) -> set[str]:
    """Pools that are open and have room for a GPU more."""
    return {
        pool.pool_id
        for pool in problem.pools
        if not pool.closed
        and not problem.cluster_by_id[pool.cluster_id].closed
        and ledger.headroom(pool.pool_id, 1) > 0
    }


def _ledger(problem: PlacementProblem) -> Ledger:
    """What is taken by what runs, and by what is on its way out beyond that."""
    taken = Counter[tuple[str, int]]()
    for row in problem.current:
        taken[row.pool_id, row.gpus_per_replica] += row.room_replicas
    for pool_id, gpus, replicas in outgoing(problem):
        taken[pool_id, gpus] += replicas
    ledger = Ledger(problem.pools)
    for (pool_id, gpus), replicas in taken.items():
        ledger.add(pool_id, gpus, replicas)
    return ledger


def _freed(before: PlacementProblem, after: PlacementProblem) -> set[str]:
    """Pools in which less room is taken than before, by what runs or by what is on its way out."""
    if before.current == after.current and before.occupancies == after.occupancies:
        return set()
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
        facts = (deployment, problem.demands_of(deployment.deployment_id), rows)
        if index.memory.of(
            "lacks", deployment.deployment_id, facts, partial(_lacks, index, deployment, rows)
        ):
            found.add(deployment.deployment_id)
    return found


def _lacks(index: Index, deployment: WantedDeployment, rows: Sequence[CurrentAssignment]) -> bool:
    return (
        missing_replicas(index, deployment, rows) > 0
        or kept(index, deployment, rows) != deployment.survivability
    )


def _could_use(index: Index, deployment: WantedDeployment, pool_ids: set[str]) -> bool:
    return any(pool.pool_id in pool_ids for pool in index.usable(deployment))


def _saving(problem: PlacementProblem, ledger: Ledger, pool_ids: set[str], touched: set[str]) -> set[str]:
    """Those that would save most by a move to one of these pools, as many as ``ledger`` has room for there."""
    market = Market(index_of(problem))
    savers: dict[str, list[tuple[float, str, int]]] = {}
    for deployment in problem.deployments:
        if deployment.deployment_id in touched:
            continue
        gpus = deployment.gpus_per_replica
        offered = {
            one.pool.pool_id: one
            for one in market.terms(deployment)
            if one.pool.pool_id in pool_ids and one.open
        }
        for pool_id, saved in _savings(market, deployment, offered) if offered else ():
            savers.setdefault(pool_id, []).append((-saved / gpus, deployment.deployment_id, gpus))
    found = set()
    for pool_id, offers in savers.items():
        for _, deployment_id, gpus in sorted(offers):
            if ledger.headroom(pool_id, gpus) > 0:
                ledger.add(pool_id, gpus, 1)
                found.add(deployment_id)
    return found


def _savings(
    market: Market, deployment: WantedDeployment, offered: Mapping[str, Terms]
) -> Iterator[tuple[str, float]]:
    """(pool, what a replica of it saves there an hour) of moves that are worth more than they cost."""
    problem, needs = market.problem, market.index.needs(deployment)

    def worth(one: Terms, cost: float) -> float:
        share = needs.share(one.pool) if needs.served > 0 else 1.0
        return cost / share if share > 0 else float("inf")

    runs_in = {row.pool_id for row in problem.current_of(deployment.deployment_id)}
    held = [one for one in market.terms(deployment) if one.pool.pool_id in runs_in]
    if not held:
        return
    dearest = max(held, key=lambda one: worth(one, one.held))
    leaving = leaving_micro_usd_per_h(problem, deployment, dearest.pool, deployment.gpus_per_replica)
    least = worth(dearest, problem.weights.hysteresis * leaving)
    for pool_id, one in offered.items():
        saved = worth(dearest, dearest.held) - worth(one, one.new)
        if pool_id != dearest.pool.pool_id and saved > least:
            yield pool_id, saved


def _given_up(entry: DeploymentPlan | None) -> set[str]:
    """Rules of what it is refused or has given up; of the survivability also what is left of it, not why."""
    if entry is None:
        return set()
    refused = {"refused"} if entry.refusal is not None else set()
    return refused | {
        wish.value.partition(":")[0] if wish.rule == "survivability" else wish.rule for wish in entry.relaxed
    }
