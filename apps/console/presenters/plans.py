"""A placement plan as the console shows it: who got what and why, and what it survives."""

from collections.abc import Sequence
from dataclasses import dataclass

from controlplane.placement import (
    Certificate,
    DeploymentPlan,
    Loss,
    PlacementPlan,
    PlacementProblem,
    PoolReason,
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


def planned(problem: PlacementProblem, plan: PlacementPlan) -> tuple[PlannedDeployment, ...]:
    """Every deployment of the plan, in the problem's order."""
    return tuple(planned_one(problem, plan, entry.deployment_id) for entry in plan.deployments)


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


def planned_alone(problem: PlacementProblem, entry: DeploymentPlan) -> PlannedDeployment:
    """A dry run's entry, whose plan holds nothing else."""
    alone = PlacementPlan(
        deployments=(entry,), micro_usd_per_h=entry.micro_usd_per_h, marginal_micro_usd_per_h=0
    )
    return planned_one(problem, alone, entry.deployment_id)


def certificate_matrix(certificate: Certificate) -> CertificateMatrix:
    """The certificate as a table."""
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
