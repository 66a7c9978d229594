"""What a plan survives as a table: deployments down, what may be lost across."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from apps.console import formatting
from controlplane.placement import Certificate, FailureDomain, Loss


@dataclass(frozen=True)
class CertificateCell:
    """What one loss does to one deployment; ``loss`` is None where it does not touch it."""

    domain: str
    loss: Loss | None
    word: str = ""
    tone: str = ""
    left: str = ""
    note: str = ""


@dataclass(frozen=True)
class CertificateRow:
    """A deployment against everything that may be lost."""

    deployment: str
    cells: tuple[CertificateCell, ...]


@dataclass(frozen=True)
class DomainHead:
    """What may be lost, as the head of a column, and what all of the project's deployments would still serve."""

    name: str
    served_percent: float
    broken: int


@dataclass(frozen=True)
class CertificateMatrix:
    """Deployments × losses."""

    domains: tuple[DomainHead, ...]
    rows: tuple[CertificateRow, ...]


def certificate_matrix(certificate: Certificate, deployment_ids: Iterable[str]) -> CertificateMatrix:
    """Some deployments' losses."""
    wanted = set(deployment_ids)
    by_deployment: dict[str, dict[FailureDomain, Loss]] = {}
    for loss in certificate.losses:
        if loss.deployment_id in wanted:
            by_deployment.setdefault(loss.deployment, {})[loss.domain] = loss
    touched = {domain for losses in by_deployment.values() for domain in losses}
    heads = [row for row in certificate.domains if row.domain in touched]
    domains = [row.domain for row in heads]
    return CertificateMatrix(
        domains=tuple(
            DomainHead(
                name=str(row.domain),
                served_percent=formatting.floored_percent(row.served_share),
                broken=len(row.broken),
            )
            for row in heads
        ),
        rows=tuple(
            CertificateRow(name, _cells(domains, losses)) for name, losses in sorted(by_deployment.items())
        ),
    )


def _cells(
    domains: Sequence[FailureDomain], losses: Mapping[FailureDomain, Loss]
) -> tuple[CertificateCell, ...]:
    return tuple(
        _cell(losses[domain]) if domain in losses else CertificateCell(str(domain), None)
        for domain in domains
    )


def _cell(loss: Loss) -> CertificateCell:
    """A verdict that nobody was promised is told, but alarms nobody."""
    left = f"{loss.replicas_left:.3g} of {loss.replicas_needed} replicas"
    margin = f"{loss.margin:+.3g}"
    if loss.requests_per_s or loss.tokens_per_s:
        left = f"{formatting.floored_percent(loss.served_share):g} % of demand, {left}"
        margin = f"{100 * loss.margin_share:+.3g} %"
    notes = [f"margin {margin}".replace("-", "−")]
    if not loss.promised:
        notes.append("not promised")
    if loss.recovery_s is not None and loss.verdict != "survives":
        notes.append(f"back in {formatting.duration(loss.recovery_s)}")
    return CertificateCell(
        domain=str(loss.domain),
        loss=loss,
        word=loss.verdict,
        tone="" if loss.promised or loss.verdict == "survives" else "idle",
        left=left,
        note=", ".join(notes),
    )
