"""Decide: the pure room at work, with no transaction open."""

import time
from dataclasses import dataclass

from django.db import connection

from controlplane.placement import PlacementPlan, PlacementProblem, certify, solve


@dataclass(frozen=True)
class Decision:
    """A plan, the problem it answers, how long that took, and the hash of the plan's certificate."""

    problem: PlacementProblem
    plan: PlacementPlan
    solve_s: float
    certificate_sha256: str = ""


def placement_decide(*, problem: PlacementProblem) -> Decision:
    """Solve. Raises RuntimeError inside a transaction: a solver may take long, and locks must not wait for it."""
    transaction_refuse("placement_decide")
    started = time.monotonic()
    plan = solve(problem)
    return decision_of(problem, plan, solve_s=time.monotonic() - started)


def decision_of(problem: PlacementProblem, plan: PlacementPlan, *, solve_s: float) -> Decision:
    """The decision for a plan, certified."""
    return Decision(problem, plan, solve_s, certificate_sha256=certify(problem, plan).sha256)


def transaction_refuse(caller: str) -> None:
    """Raises RuntimeError inside a transaction."""
    if connection.in_atomic_block:
        raise RuntimeError(f"{caller} was called inside a transaction; call it outside of any")
