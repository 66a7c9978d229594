"""Placement over virtual time, as production asks it: ``solve`` first, ``touched_by`` and ``resolve`` at each event."""

from collections.abc import Iterable
from dataclasses import replace

from controlplane.placement import (
    Demand,
    Occupancy,
    PlacementPlan,
    PlacementProblem,
    Pool,
    resolve,
    solve,
    touched_by,
)
from controlplane.placement.questions.drain import Drained, drained
from controlplane.placement.rules.occupancy import promised_first


class Planning:
    """Single owner. ``plan`` is in force; ``problem``: what it answers, with itself carried out.

    solves: how often placement was asked; placed_anew: deployments that it placed again, each time
    """

    def __init__(self, problem: PlacementProblem) -> None:
        """Asks for everything."""
        self.problem = problem
        self.plan: PlacementPlan = solve(problem)
        self.solves = 1
        self.placed_anew = 0
        self._carry_out(problem)

    def anew(
        self,
        *,
        pools: tuple[Pool, ...],
        demands: tuple[Demand, ...],
        occupancies: Iterable[Occupancy] = (),
        drains: Iterable[Drained] = (),
    ) -> frozenset[str]:
        """Place anew whoever is touched by what was lost or came back, by room that was left, or by demand that moved.

        pools:       as they are now; those that are closed are lost
        occupancies: what is on its way out, which takes room from every plan, but not from those to whom one in force
                     has promised it
        drains:      what is being emptied

        Returns who that was (ids).
        """
        lost = {pool.pool_id for pool in pools if pool.closed}
        after = replace(
            self.problem,
            pools=pools,
            current=tuple(row for row in self.problem.current if row.pool_id not in lost),
            occupancies=tuple(row for row in occupancies if row.pool_id not in lost),
            demands=demands,
        )
        after = drained(promised_first(after), drains)
        touched = touched_by(self.problem, after)
        if touched:
            self.plan = resolve(after, self.plan, touched)
            self.solves += 1
            self.placed_anew += len(touched)
            self._carry_out(after)
        return touched

    def _carry_out(self, problem: PlacementProblem) -> None:
        """What is planned runs."""
        current = tuple(
            row.carried_out(
                assignment_id=f"{entry.deployment_id}-{number}", deployment_id=entry.deployment_id
            )
            for entry in self.plan.deployments
            for number, row in enumerate(entry.allocations)
        )
        self.problem = replace(problem, current=current, plan_generation=problem.plan_generation + 1)
