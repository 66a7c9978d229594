"""Decide: the pure room at work, with no transaction open."""

import time
from dataclasses import dataclass

from django.db import connection

from controlplane.placement import PlacementPlan, PlacementProblem, solve


@dataclass(frozen=True)
class Decision:
    """A plan, the problem it answers, and how long that took."""

    problem: PlacementProblem
    plan: PlacementPlan
    solve_s: float


def placement_decide(*, problem: PlacementProblem) -> Decision:
    """Solve. Raises RuntimeError inside a transaction: a solver may take long, and locks must not wait for it."""
    if connection.in_atomic_block:
        raise RuntimeError("placement_decide was called inside a transaction; call it outside of any")
    started = time.monotonic()
    plan = solve(problem)
    return Decision(problem=problem, plan=plan, solve_s=time.monotonic() - started)
