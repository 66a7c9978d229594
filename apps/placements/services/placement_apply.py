"""Apply: adopt of a plan what the world has not overtaken, in one transaction.

Locks are taken in one order everywhere: deployments, clusters, pools, the organization's placement clock, and last
what ``tables_compile`` locks. Between load and apply anything may have changed: a deployment or pool whose generation
moved on makes the part of the plan that touches it stale. That part is dropped; whoever changed the row has raised
the clock, so it is solved again. The rest is adopted, so that every round gets something done.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from uuid import UUID

from django.db import transaction

from apps.agents.services.tables_compile import deployments_tables_compile
from apps.deployments import selectors as deployments
from apps.deployments.models import Deployment
from apps.deployments.services.deployment_observe import deployment_observe
from apps.deployments.services.placed_set import Placed, placed_set
from apps.fleet import selectors as fleet
from apps.placements import selectors
from apps.placements.models import PlacementClock, PlacementPlan
from apps.placements.services.assignments_write import assignments_write
from apps.placements.services.placement_decide import Decision
from apps.placements.services.plan_in_force import plan_keep
from controlplane.placement import (
    DeploymentPlan,
    PlacementProblem,
    plan_cost,
)
from controlplane.placement import PlacementPlan as Plan
from controlplane.placement.rules.changes import EntryChange, entry_change, that_fit


@dataclass(frozen=True)
class Adoption:
    """What became of a decision.

    plan_generation: of the stored plan; None where nothing had to change, or all was overtaken
    adopted, stale:  ids of deployments whose entries were carried out, and of those that must be solved again
    """

    plan_generation: int | None
    adopted: frozenset[UUID]
    stale: frozenset[UUID]


@transaction.atomic
def placement_apply(*, decision: Decision) -> Adoption:
    """Adopt what still holds; the rest is to be solved again."""
    problem = decision.problem
    organization_id = UUID(problem.organization_id)
    touched = _touched(decision)
    locked = deployments.deployments_locked(ids=[UUID(change.entry.deployment_id) for change in touched])
    moved_pools = _moved_pools(problem, touched)
    clock, _ = PlacementClock.objects.select_for_update().get_or_create(organization_id=organization_id)
    stale = _stale(problem, touched, locked, moved_pools)
    if (
        clock.plan_generation != problem.plan_generation
    ):  # another plan was adopted meanwhile: what runs has changed
        stale = {change.entry.deployment_id for change in touched}
    adoptable = {change.entry.deployment_id for change in touched} - stale
    fitting = that_fit(problem, touched, adoptable)
    fitting -= _beyond_budgets(problem, fitting, stale | (adoptable - fitting))
    adopted = [change for change in touched if change.entry.deployment_id in fitting]
    stale |= adoptable - fitting
    plan = _plan_store(decision, clock, stale) if adopted else None
    _clock_store(clock, problem, overtaken=bool(stale))
    if plan is not None:
        _carry_out(plan, adopted, locked, problem)
    return Adoption(
        plan_generation=plan.plan_generation if plan else None,
        adopted=frozenset(UUID(change.entry.deployment_id) for change in adopted),
        stale=frozenset(UUID(deployment_id) for deployment_id in stale),
    )


def _touched(decision: Decision) -> list[EntryChange]:
    """Entries that change an assignment, or what a deployment is told about its placement."""
    standing_by = selectors.standby_places(organization_id=UUID(decision.problem.organization_id))
    told = deployments.placed_conditions(organization_id=UUID(decision.problem.organization_id))
    touched = []
    for entry in decision.plan.deployments:
        change = entry_change(decision.problem, entry, standing_by=standing_by)
        why = entry.relaxed if entry.refusal is None else (entry.refusal,)
        says = (entry.generation, entry.refusal is None, why)
        if change.changes_assignments or told.get(entry.deployment_id) != says:
            touched.append(change)
    return touched


def _moved_pools(problem: PlacementProblem, touched: Iterable[EntryChange]) -> set[str]:
    """Pools, of those where room is taken, that are not what the plan was made for: they or their clusters changed."""
    pool_ids = {pool_id for change in touched for pool_id in change.pool_ids_needed}
    cluster_ids = {problem.pool_by_id[pool_id].cluster_id for pool_id in pool_ids}
    clusters = fleet.cluster_generations_locked(cluster_ids=cluster_ids)
    pools = fleet.pool_generations_locked(pool_ids=pool_ids)
    return {
        pool_id
        for pool_id in pool_ids
        if pools.get(UUID(pool_id)) != problem.pool_by_id[pool_id].generation
        or clusters.get(UUID(problem.pool_by_id[pool_id].cluster_id))
        != problem.cluster_by_id[problem.pool_by_id[pool_id].cluster_id].generation
    }


def _stale(
    problem: PlacementProblem,
    touched: Iterable[EntryChange],
    locked: Collection[Deployment],
    moved_pools: set[str],
) -> set[str]:
    generations = {str(row.pk): row.generation for row in locked if row.deletion_requested_at is None}
    return {
        change.entry.deployment_id
        for change in touched
        if generations.get(change.entry.deployment_id) != change.entry.generation
        or change.pool_ids_needed & moved_pools
    }


def _beyond_budgets(problem: PlacementProblem, fitting: set[str], stale: set[str]) -> set[str]:
    """Of a project with a budget, all or nothing: what one deployment saves may be what another spends."""
    bounded = {budget.project_id for budget in problem.budgets}
    waiting = {problem.deployment_by_id[deployment_id].project_id for deployment_id in stale} & bounded
    return {
        deployment_id
        for deployment_id in fitting
        if problem.deployment_by_id[deployment_id].project_id in waiting
    }


def _plan_store(decision: Decision, clock: PlacementClock, stale: set[str]) -> PlacementPlan:
    """Store what is in force from now on: the plan without its overtaken entries."""
    problem = decision.problem
    plan = _without(decision.plan, stale) if stale else decision.plan
    objective = plan.objective_micro_usd_per_h
    if stale or objective is None:
        objective = plan_cost(problem, plan).total_micro_usd_per_h
    clock.plan_generation += 1
    row = PlacementPlan.objects.create(
        organization_id=clock.organization_id,
        plan_generation=clock.plan_generation,
        problem=problem,
        plan=plan,
        micro_usd_per_h=plan.micro_usd_per_h,
        objective_micro_usd_per_h=objective,
        lower_bound_micro_usd_per_h=plan.lower_bound_micro_usd_per_h,
        gpu_micro_usd_per_h_by_pool=dict(plan.gpu_micro_usd_per_h_by_pool),
        refused=sum(entry.refusal is not None for entry in plan.deployments),
        relaxed=sum(bool(entry.relaxed) for entry in plan.deployments),
        solve_s=decision.solve_s,
    )
    transaction.on_commit(partial(plan_keep, row.pk, problem, plan))
    return row


def _without(plan: Plan, deployment_ids: Collection[str]) -> Plan:
    entries = tuple(entry for entry in plan.deployments if entry.deployment_id not in deployment_ids)
    rows = [row for entry in entries for row in entry.allocations]
    return replace(
        plan,
        deployments=entries,
        micro_usd_per_h=sum(row.micro_usd_per_h for row in rows),
        marginal_micro_usd_per_h=sum(row.marginal_micro_usd_per_h for row in rows),
    )


def _carry_out(
    plan: PlacementPlan,
    adopted: Sequence[EntryChange],
    locked: Collection[Deployment],
    problem: PlacementProblem,
) -> None:
    by_id = {str(row.pk): row for row in locked}
    cluster_ids = assignments_write(
        plan=plan,
        wanted=[
            (by_id[change.entry.deployment_id], change.entry.allocations)
            for change in adopted
            if change.changes_assignments
        ],
        problem=problem,
    )
    news = placed_set(
        placed=[_placed(change.entry, by_id[change.entry.deployment_id], problem) for change in adopted]
    )
    nowhere = any(  # gateways say why
        not change.entry.allocations and UUID(change.entry.deployment_id) in news for change in adopted
    )
    ids = sorted(UUID(change.entry.deployment_id) for change in adopted)
    settled = deployment_observe(deployment_ids=ids, compiles_tables=False)
    if cluster_ids or nowhere or settled:
        deployments_tables_compile(organization_id=UUID(problem.organization_id), deployment_ids=ids)


def _placed(entry: DeploymentPlan, deployment: Deployment, problem: PlacementProblem) -> Placed:
    clusters = {
        problem.cluster_by_id[problem.pool_by_id[row.pool_id].cluster_id].name for row in entry.allocations
    }
    return Placed(deployment, entry.refusal, entry.relaxed, sorted(clusters))


def _clock_store(clock: PlacementClock, problem: PlacementProblem, *, overtaken: bool) -> None:
    """Nothing overtaken may be forgotten: then the clock stays behind what is wanted.

    Stored before the plan is carried out, which may raise the clock by itself (an assignment that ends frees room).
    """
    clock.solved = max(clock.solved, problem.wanted)
    if overtaken and clock.wanted <= clock.solved:
        clock.wanted = clock.solved + 1
    clock.save(update_fields=["solved", "wanted", "plan_generation"])
