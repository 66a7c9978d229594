"""A plan that took long, brought to the world as it is by now. Pure; reads and writes nothing."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from controlplane.placement import (
    CurrentAssignment,
    DeploymentPlan,
    PlacementPlan,
    PlacementProblem,
    priced,
    resolve,
)


def rebased(plan: PlacementPlan, *, made_for: PlacementProblem, now: PlacementProblem) -> PlacementPlan:
    """What ``plan`` gives to those whom nothing has touched since; the others placed anew in the room that they leave.

    Touched are new and changed deployments, those whose demand, budget or replicas are not what they were, and those
    that the plan puts into a pool or cluster that has changed.
    """
    overtaken = _overtaken(plan, made_for, now)
    kept = {
        entry.deployment_id: entry
        for entry in plan.deployments
        if entry.deployment_id in now.deployment_by_id and entry.deployment_id not in overtaken
    }
    others = [row for row in now.current if row.deployment_id not in kept]
    carried_out = replace(now, current=(*others, *current_by(kept.values(), now)))
    around = resolve(carried_out, replace(plan, deployments=tuple(kept.values())), overtaken)
    return priced(now, replace(around, gpu_micro_usd_per_h_by_pool=plan.gpu_micro_usd_per_h_by_pool))


def current_by(entries: Iterable[DeploymentPlan], now: PlacementProblem) -> list[CurrentAssignment]:
    """What would run, had these entries been carried out; under the ids of ``now``, where it has them."""
    ids = {(row.revision_id, row.pool_id): row.assignment_id for row in now.current}
    return [
        row.carried_out(
            assignment_id=ids.get((row.revision_id, row.pool_id), f"{row.revision_id} {row.pool_id}"),
            deployment_id=entry.deployment_id,
        )
        for entry in entries
        for row in entry.allocations
    ]


def _overtaken(plan: PlacementPlan, was: PlacementProblem, now: PlacementProblem) -> frozenset[str]:
    pools = {pool.pool_id for pool in now.pools if _place(was, pool.pool_id) == _place(now, pool.pool_id)}
    budgets = _budgets(was), _budgets(now)
    return frozenset(
        wanted.deployment_id
        for wanted in now.deployments
        if was.deployment_by_id.get(wanted.deployment_id) != wanted
        or was.demands_of(wanted.deployment_id) != now.demands_of(wanted.deployment_id)
        or was.current_of(wanted.deployment_id) != now.current_of(wanted.deployment_id)
        or budgets[0].get(wanted.project_id) != budgets[1].get(wanted.project_id)
        or wanted.deployment_id not in plan.by_deployment
        or any(row.pool_id not in pools for row in plan.by_deployment[wanted.deployment_id].allocations)
    )


def _place(problem: PlacementProblem, pool_id: str) -> object:
    """A pool with its cluster, as the problem has them."""
    pool = problem.pool_by_id.get(pool_id)
    return (pool, problem.cluster_by_id[pool.cluster_id]) if pool is not None else None


def _budgets(problem: PlacementProblem) -> Mapping[str, int]:
    return {row.project_id: row.micro_usd_per_h for row in problem.budgets}
