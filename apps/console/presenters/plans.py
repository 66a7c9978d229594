"""A placement plan as the console shows it: who got what and why, and what it survives."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from controlplane.placement import (
    Loss,
    PlacementPlan,
    PlacementProblem,
    PoolReason,
    certify,
    explain,
)
from workloadplane.protocol.refusal import Refusal


@dataclass(frozen=True)
class PlannedDeployment:
    """One deployment's part of a plan. ``taken`` and ``passed_over`` are its pools with their reasons."""

    name: str
    residency: tuple[str, ...]
    min_replicas: int
    micro_usd_per_h: int
    refusal: Refusal | None
    taken: tuple[PoolReason, ...]
    passed_over: tuple[PoolReason, ...]


@dataclass(frozen=True)
class CertificateCell:
    """What one loss does to one deployment; None where it does not touch it."""

    loss: Loss | None
    word: str
    said: str


@dataclass(frozen=True)
class CertificateRow:
    """A deployment against every failure domain."""

    deployment: str
    cells: tuple[CertificateCell, ...]


@dataclass(frozen=True)
class CertificateMatrix:
    """Deployments × failure domains."""

    domains: tuple[str, ...]
    rows: tuple[CertificateRow, ...]
    broken_promises: tuple[str, ...]


def of_project(problem: PlacementProblem, plan: PlacementPlan, project_id: UUID) -> tuple[str, ...]:
    """The ids of one project's deployments in a plan; other projects' are counted in its money alone."""
    ids = (entry.deployment_id for entry in plan.deployments)
    return tuple(row for row in ids if problem.deployment_by_id[row].project_id == str(project_id))


def planned_one(problem: PlacementProblem, plan: PlacementPlan, deployment_id: str) -> PlannedDeployment:
    """One deployment of the plan."""
    entry = plan.by_deployment[deployment_id]
    wanted = problem.deployment_by_id[deployment_id]
    reasons = explain(problem, plan, deployment_id)
    return PlannedDeployment(
        name=wanted.name,
        residency=tuple(wanted.residency),
        min_replicas=wanted.min_replicas,
        micro_usd_per_h=entry.micro_usd_per_h,
        refusal=entry.refusal,
        taken=tuple(reason for reason in reasons if reason.allocation is not None),
        passed_over=tuple(reason for reason in reasons if reason.allocation is None),
    )


def certificate_matrix(
    problem: PlacementProblem, plan: PlacementPlan, deployment_ids: Sequence[str]
) -> CertificateMatrix:
    """What some of a plan's deployments survive, as a table."""
    shown = replace(plan, deployments=tuple(plan.by_deployment[row] for row in deployment_ids))
    certificate = certify(problem, shown)
    domains = sorted({(loss.domain.kind, loss.domain.name) for loss in certificate.losses})
    by_deployment: dict[str, list[Loss]] = {}
    for loss in certificate.losses:
        by_deployment.setdefault(loss.deployment, []).append(loss)
    rows = tuple(
        CertificateRow(name, tuple(_cell(losses, kind, domain) for kind, domain in domains))
        for name, losses in sorted(by_deployment.items())
    )
    return CertificateMatrix(
        domains=tuple(f"{kind} {name}" for kind, name in domains),
        rows=rows,
        broken_promises=certificate.broken_promises,
    )


def _cell(losses: Sequence[Loss], kind: str, name: str) -> CertificateCell:
    loss = next((loss for loss in losses if (loss.domain.kind, loss.domain.name) == (kind, name)), None)
    if loss is None:
        return CertificateCell(None, "untouched", "nothing of it runs there")
    promise = "promised" if loss.promised else "not promised"
    left = f"{loss.replicas_left} of {loss.replicas_needed} replicas left"
    return CertificateCell(loss, loss.verdict, f"{left}, {promise}")
