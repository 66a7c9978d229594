"""Placement over virtual time, as production asks it.

``solve`` first, ``to_place_anew`` and ``resolve`` at each event, and now and then the whole search for a better plan.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from controlplane.placement import (
    Budget,
    Demand,
    Occupancy,
    PlacementPlan,
    PlacementProblem,
    Pool,
    newly_lacking,
    resolve,
    solve,
    to_place_anew,
)
from controlplane.placement.questions.drain import Drained, drained
from controlplane.placement.rules.changes import entry_change
from controlplane.placement.rules.occupancy import promised_first
from controlplane.placement.search.full import FullSolve, full_solve
from controlplane.placement.search.improve import Effort


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """What may have moved since the plan before.

    pools:       as they are; those that are closed are lost
    occupancies: what is on its way out, which takes room from every plan, but not from those to whom one in force has
                 promised it
    drains:      what is being emptied
    """

    pools: tuple[Pool, ...]
    demands: tuple[Demand, ...]
    occupancies: tuple[Occupancy, ...] = ()
    drains: tuple[Drained, ...] = ()
    budgets: tuple[Budget, ...] = ()


class Planning:
    """Single owner. ``plan`` is in force; ``problem``: what it answers, with itself carried out.

    solves:       how often placement was asked; placed_anew: deployments that it placed again, each time
    searches:     of these, whole searches; where nothing has changed since one it would find the same
    has_given_up: somebody was refused, or a wish given up that was kept before: production searches at once then
    """

    def __init__(self, problem: PlacementProblem) -> None:
        """Asks for everything."""
        self.problem = problem
        self.plan: PlacementPlan = solve(problem)
        self.solves = 1
        self.placed_anew = 0
        self.has_given_up = bool(newly_lacking(None, self.plan, self.plan.by_deployment))
        self.searches = 0
        self._worth: Mapping[str, int] = {}
        self._searched: PlacementProblem | None = None
        self._looked_at: Now | None = None
        self._carry_out(problem)

    def anew(self, now: Now) -> frozenset[str]:
        """Place anew whoever is touched by what was lost or came back, by room that was left, or by demand that moved.

        And at each such event those that lack a wish. Returns who is placed otherwise, or told something else (ids);
        where that is nobody, the plan before stays in force.
        """
        if now == self._looked_at:
            return frozenset()
        self._looked_at = now
        after = self._at(now)
        anew = to_place_anew(self.plan, self.problem, after)
        if not anew:
            return anew
        in_force = replace(self.plan, gpu_micro_usd_per_h_by_pool=self._worth) if self._worth else self.plan
        plan = resolve(after, in_force, anew)
        self.solves += 1
        self.placed_anew += len(anew)
        adopted = self._adopted(after, plan)
        if adopted:
            self.has_given_up |= bool(newly_lacking(self.plan, plan, adopted))
            self.plan = plan
            self._carry_out(after)
        return adopted

    def improve(self, now: Now, effort: Effort) -> FullSolve | None:
        """Search for a better plan; it is in force from now on if that is worth its moves. None: all stays as it is."""
        problem, self.has_given_up = self._at(now), False
        if problem == self._searched:
            return None
        found = full_solve(problem, effort=effort, gpu_micro_usd_per_h_by_pool=self._worth or None)
        self.solves += 1
        self.searches += 1
        self._searched = problem
        self._worth = found.better.gpu_micro_usd_per_h_by_pool
        if not found.worth.adopt or not self._adopted(found.problem, found.better):
            return None
        self.plan = found.better
        self._carry_out(found.problem)
        return found

    def _adopted(self, problem: PlacementProblem, plan: PlacementPlan) -> frozenset[str]:
        """Whom it places otherwise than the plan in force, or tells something else (ids)."""
        was = self.plan.by_deployment
        standing_by = {
            (row.revision_id, row.pool_id)
            for entry in self.plan.deployments
            for row in entry.allocations
            if row.standby
        }
        return frozenset(
            entry.deployment_id
            for entry in plan.deployments
            if entry_change(problem, entry, standing_by=standing_by).changes_assignments
            or (entry.refusal, entry.relaxed)
            != (was[entry.deployment_id].refusal, was[entry.deployment_id].relaxed)
        )

    def _at(self, now: Now) -> PlacementProblem:
        lost = {pool.pool_id for pool in now.pools if pool.closed}
        after = replace(
            self.problem,
            pools=now.pools,
            current=tuple(row for row in self.problem.current if row.pool_id not in lost),
            occupancies=tuple(row for row in now.occupancies if row.pool_id not in lost),
            demands=now.demands,
            budgets=now.budgets,
        )
        return drained(promised_first(after), now.drains)

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
