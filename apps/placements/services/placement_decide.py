"""Decide: the pure room at work, with no transaction open."""

import time
from dataclasses import dataclass, replace

from django.db import connection

from apps.placements.rebase import current_by
from apps.placements.services.plan_in_force import InForce
from controlplane.placement import (
    PlacementPlan,
    PlacementProblem,
    resolve,
    solve,
    to_place_anew,
)
from controlplane.placement.rules.needs import index_of
from controlplane.placement.undisturbed import undisturbed


@dataclass(frozen=True)
class Decision:
    """A plan, the problem it answers, and how long that took."""

    problem: PlacementProblem
    plan: PlacementPlan
    solve_s: float


def placement_decide(*, problem: PlacementProblem, in_force: InForce | None = None) -> Decision:
    """Solve what has changed since the plan in force; everything, where none is.

    Raises RuntimeError inside a transaction: a solver may take long, and locks must not wait for it.
    """
    transaction_refuse("placement_decide")
    started = time.monotonic()
    with undisturbed():
        plan = _anew(problem, in_force) if in_force is not None else solve(problem)
    return Decision(problem, plan, solve_s=time.monotonic() - started)


def _anew(problem: PlacementProblem, in_force: InForce) -> PlacementPlan:
    anew = to_place_anew(in_force.plan, as_adopted(in_force, problem), problem)
    return resolve(problem, in_force.plan, anew)


def as_adopted(in_force: InForce, now: PlacementProblem) -> PlacementProblem:
    """The problem in force as it would be, had its plan been carried out and nothing else happened since.

    So what a plan itself has changed touches nobody again. Ids of assignments are those of ``now``, where it has them.
    """
    known = in_force.problem.pool_by_id
    current = [row for row in current_by(in_force.plan.deployments, now) if row.pool_id in known]
    carried_out = replace(in_force.problem, current=tuple(sorted(current, key=lambda row: row.assignment_id)))
    index_of(carried_out, former=in_force.problem)  # what is known of the one holds for the other
    return carried_out


def transaction_refuse(caller: str) -> None:
    """Raises RuntimeError inside a transaction."""
    if connection.in_atomic_block:
        raise RuntimeError(f"{caller} was called inside a transaction; call it outside of any")
