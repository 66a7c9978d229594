"""Whoever asks about a plan, and whose money they may see. Pure; reads and writes nothing."""

from dataclasses import dataclass
from typing import Literal

from apps.accounts.selectors import project_wanted
from apps.api.actors import Actor
from controlplane.placement import PlacementProblem


@dataclass(frozen=True)
class Asker:
    """A plan is one organization's, a question one project's.

    Who operates the organization sees what all its projects spend together; anybody else what the own project does,
    for with two projects the sum of both tells the other's bill.
    """

    project_id: str
    operates: bool

    @property
    def sums_of(self) -> Literal["organization", "project"]:
        """Whose deployments sums are made of."""
        return "organization" if self.operates else "project"

    def own_ids(self, problem: PlacementProblem) -> frozenset[str]:
        """Ids of the own project's deployments."""
        return frozenset(
            row.deployment_id for row in problem.deployments if row.project_id == self.project_id
        )

    def summed_ids(self, problem: PlacementProblem) -> frozenset[str]:
        """Ids of those deployments of which sums are made."""
        return frozenset(problem.deployment_by_id) if self.operates else self.own_ids(problem)


def asker_of(actor: Actor) -> Asker:
    """Raises Problem ``project_wanted`` where ``actor`` acts for none."""
    return Asker(project_id=str(project_wanted(actor)), operates=actor.can_operate)
