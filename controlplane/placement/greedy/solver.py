"""Greedy and stable: what runs stays, what is new goes where it costs least, one deployment after the other.

1. Every deployment's present room is reserved where it lawfully is, so that nobody is displaced by a newcomer.
   Priority decides between those who wait, not over those who run.
2. In order of priority, then age, each gives its reservation back, is placed anew with what it holds preferred over
   any price, and takes its room; what does not fit gives wishes up in the order of ``ladder``. Who fits nowhere keeps
   what it held and gets a Refusal. Deployments that only name a place to start in come last.
3. For each that lacks something, those who came newly where it could be go elsewhere with all that they keep of their
   wishes; where that is asked for those who run there too (``making_way``).
4. Whoever still lacks replicas or nearness gets the spares of others, held for their survivability alone
   (``yielding``).
5. When all rooms stand, each allocation's ceiling is what it could reach beside them, up to the owner's maximum, and
   it is said why wishes were given up: only then do a remedy's numbers hold.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace

from controlplane.placement.greedy.book import (
    Book,
    book_of,
    plan_of,
    raise_ceilings,
    reserve_all,
    say_why_not,
    turn,
)
from controlplane.placement.greedy.making_way import make_way
from controlplane.placement.greedy.refusals import says_given_way
from controlplane.placement.greedy.turns import place
from controlplane.placement.greedy.yielding import spares_yield
from controlplane.placement.plan import Allocation, DeploymentPlan, PlacementPlan
from controlplane.placement.problem import PlacementProblem
from controlplane.placement.rules.cost import priced
from controlplane.placement.supply import CurrentAssignment
from controlplane.placement.wishes import WantedDeployment


def solve(problem: PlacementProblem, *, runners_make_way: bool = False) -> PlacementPlan:
    """A plan for every deployment of the problem. Deterministic: equal problems give equal plans.

    runners_make_way: whether what runs moves also where another lacks something; else only where a rule forces it
    """
    book = book_of(problem, {})
    reserve_all(book)
    _place_all(book, _in_order(book, problem.deployments), runners_make_way=runners_make_way)
    return priced(problem, plan_of(book, problem.deployments))


def resolve(problem: PlacementProblem, in_force: PlacementPlan, touched: Collection[str]) -> PlacementPlan:
    """The plan in force, with the deployments ``touched`` (ids) placed anew in the room that the others leave.

    At the scarcity prices of the last full solve, which ``in_force`` carries. Whoever is new or changed, or no longer
    lawfully has what is in force, counts as touched. Of the others those may change whose spares a touched one needs:
    they give them up, and move nothing else for money. What is touched moves where it must, or where that alone saves
    ``hysteresis`` times what its moves cost.
    """
    book = book_of(problem, in_force.gpu_micro_usd_per_h_by_pool)
    book.moves = problem.weights.hysteresis
    reserve_all(book)
    anew = []
    for deployment in problem.deployments:
        is_touched = deployment.deployment_id in touched
        entry = None if is_touched else _standing_entry(book, deployment, in_force)
        if entry is None:
            anew.append(deployment)
        else:
            book.entries[deployment.deployment_id] = entry
    book.given_way.update(row.deployment_id for row in in_force.deployments if says_given_way(row.relaxed))
    _place_all(book, _in_order(book, anew))
    plan = replace(
        plan_of(book, problem.deployments), gpu_micro_usd_per_h_by_pool=in_force.gpu_micro_usd_per_h_by_pool
    )
    return priced(problem, plan)


def _in_order(book: Book, deployments: Iterable[WantedDeployment]) -> list[WantedDeployment]:
    return sorted(deployments, key=lambda deployment: turn(book.market.index, deployment))


def _standing_entry(
    book: Book, deployment: WantedDeployment, in_force: PlacementPlan
) -> DeploymentPlan | None:
    """The entry in force, where it still is what runs and all of that may stay; else None."""
    entry = in_force.by_deployment.get(deployment.deployment_id)
    rows = book.problem.current_of(deployment.deployment_id)
    if entry is None or entry.generation != deployment.generation:
        return None
    runs = [_place_of(row) for row in rows]
    kept = book.kept[deployment.deployment_id]
    if kept != list(rows) and {_place_of(row) for row in kept} != {*runs}:
        return None
    planned = [_place_of(row) for row in entry.allocations]
    return entry if planned == runs or {*planned} == {*runs} else None


def _place_of(row: CurrentAssignment | Allocation) -> tuple[str, str, int, int, int, bool]:
    return (
        row.pool_id,
        row.revision_id,
        row.min_replicas,
        row.planned_replicas,
        row.gpus_per_replica,
        row.standby,
    )


def _place_all(book: Book, in_order: Collection[WantedDeployment], *, runners_make_way: bool = False) -> None:
    for deployment in in_order:
        place(book, deployment)
    make_way(book, in_order, runners=runners_make_way)
    given_way = spares_yield(book, in_order)
    known = {deployment.deployment_id for deployment in in_order}
    for deployment in (*in_order, *(one for one in given_way if one.deployment_id not in known)):
        if deployment.deployment_id in book.lacking:
            say_why_not(book, deployment)
        raise_ceilings(book, deployment)
