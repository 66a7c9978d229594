"""What a plan survives, domain by domain. Judges any plan from outside: own arithmetic, nothing of a solver.

For each deployment and each failure domain that carries a part of it: if that domain were lost this moment, how many
promised replicas are left, and are they enough for the demand planned for? What runs on spot capacity counts as lost
(it may go at any time), and only minima count (a ceiling is a hope). Both err on the side of "does not survive".
"""

from dataclasses import dataclass
from typing import Literal

from controlplane.placement.plan import Allocation, DeploymentPlan, PlacementPlan
from controlplane.placement.problem import FailureDomain, PlacementProblem, WantedDeployment

Verdict = Literal["survives", "degraded", "lost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What the loss of one failure domain does to one deployment.

    replicas_needed: the demand planned for
    replicas_left:   promised replicas outside the domain, spot not counted
    recovery_s:      longest known cold start on the clusters that are left; None where none was measured
    promised:        whether the deployment's survivability covers this kind of loss
    """

    deployment_id: str
    deployment: str
    domain: FailureDomain
    replicas_needed: int
    replicas_left: int
    recovery_s: float | None
    promised: bool
    verdict: Verdict

    @property
    def margin(self) -> int:
        return self.replicas_left - self.replicas_needed


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """Every loss that touches a deployment, and in words each promise that the plan does not keep."""

    losses: tuple[Loss, ...]
    broken_promises: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return not self.broken_promises


#: Surviving the wider loss includes the narrower ones.
_COVERS = {
    "none": (),
    "zone": ("zone",),
    "region": ("zone", "region"),
    "provider": ("zone", "region", "provider"),
}


def certify(problem: PlacementProblem, plan: PlacementPlan) -> Certificate:
    """Judge ``plan`` against the problem it answers."""
    losses: list[Loss] = []
    broken: list[str] = []
    for entry in plan.deployments:
        deployment = problem.deployment_by_id[entry.deployment_id]
        found = _losses(problem, deployment, entry)
        losses.extend(found)
        broken.extend(
            _broken(deployment, loss) for loss in found if loss.promised and loss.verdict != "survives"
        )
        if entry.refusal is not None and deployment.survivability != "none":
            broken.append(f"{deployment.name}: not placed as wanted ({entry.refusal.rule})")
    return Certificate(losses=tuple(losses), broken_promises=tuple(broken))


def _losses(problem: PlacementProblem, deployment: WantedDeployment, entry: DeploymentPlan) -> list[Loss]:
    touched = sorted(
        {domain for row in entry.allocations for domain in _domains(problem, row)},
        key=lambda domain: (domain.kind, domain.name),
    )
    return [_loss(problem, deployment, entry, domain) for domain in touched]


def _domains(problem: PlacementProblem, row: Allocation) -> tuple[FailureDomain, ...]:
    cluster_id = problem.pool_by_id[row.pool_id].cluster_id
    return problem.cluster_by_id[cluster_id].failure_domains


def _loss(
    problem: PlacementProblem, deployment: WantedDeployment, entry: DeploymentPlan, domain: FailureDomain
) -> Loss:
    outside = [row for row in entry.allocations if domain not in _domains(problem, row)]
    left = sum(row.min_replicas for row in outside if problem.pool_by_id[row.pool_id].procurement != "spot")
    can_start_outside = any(row.max_replicas > 0 for row in outside)
    needed = deployment.min_replicas
    verdict: Verdict = "degraded"
    if left >= needed and can_start_outside:
        verdict = "survives"
    elif not can_start_outside:
        verdict = "lost"
    return Loss(
        deployment_id=deployment.deployment_id,
        deployment=deployment.name,
        domain=domain,
        replicas_needed=needed,
        replicas_left=left,
        recovery_s=_recovery_s(problem, deployment, outside),
        promised=domain.kind in _COVERS[deployment.survivability],
        verdict=verdict,
    )


def _recovery_s(
    problem: PlacementProblem, deployment: WantedDeployment, outside: list[Allocation]
) -> float | None:
    """Phases that were not passed add nothing; a pool without a profile makes the answer an underestimate."""
    instance_types = {problem.pool_by_id[row.pool_id].instance_type_id for row in outside}
    measured = [
        sum(
            phase_s
            for phase_s in (row.gpu_procurement_s, row.image_pull_s, row.weight_load_s, row.engine_start_s)
            if phase_s is not None
        )
        for row in problem.profiles
        if row.model_version_id == deployment.model_version_id and row.instance_type_id in instance_types
    ]
    return max(measured, default=None)


def _broken(deployment: WantedDeployment, loss: Loss) -> str:
    return (
        f"{deployment.name}: losing {loss.domain} leaves {loss.replicas_left} of"
        f" {loss.replicas_needed} promised replicas"
    )
