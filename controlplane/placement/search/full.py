"""A full solve: everything anew, weighed against what moves only where a rule forces it (decision 0021, stability)."""

from collections.abc import Mapping
from dataclasses import dataclass

from controlplane.placement.greedy.solver import solve
from controlplane.placement.plan import PlacementPlan
from controlplane.placement.problem import PlacementProblem
from controlplane.placement.rules.worth import Worth, worth
from controlplane.placement.search.improve import Effort, improve


@dataclass(frozen=True, slots=True)
class FullSolve:
    """Of ``problem``. ``stay`` moves only what a rule forces; ``better`` is what was found at any price of moves."""

    problem: PlacementProblem
    stay: PlacementPlan
    better: PlacementPlan

    @property
    def changes(self) -> bool:
        """Whether they differ."""
        return self.better.deployments != self.stay.deployments

    @property
    def worth(self) -> Worth:
        """What ``better`` saves and what its moves cost; it is to be adopted where that says so."""
        return worth(self.problem, stay=self.stay, better=self.better)


def full_solve(
    problem: PlacementProblem,
    *,
    effort: Effort,
    gpu_micro_usd_per_h_by_pool: Mapping[str, int] | None = None,
) -> FullSolve:
    """Search as long as ``effort`` says, from a greedy plan in which who runs makes way too.

    gpu_micro_usd_per_h_by_pool: what GPUs were worth in the last one, see ``improve``
    """
    better = improve(
        problem,
        start=solve(problem, runners_make_way=True),
        effort=effort,
        seed=problem.wanted,
        gpu_micro_usd_per_h_by_pool=gpu_micro_usd_per_h_by_pool,
    )
    return FullSolve(problem, stay=solve(problem), better=better)
