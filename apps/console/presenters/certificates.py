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
    said: str = ""


@dataclass(frozen=True)
class CertificateRow:
    """A deployment against everything that may be lost."""

    deployment: str
    cells: tuple[CertificateCell, ...]


@dataclass(frozen=True)
class CertificateMatrix:
    """Deployments × losses."""

    domains: tuple[str, ...]
    rows: tuple[CertificateRow, ...]


def certificate_matrix(
    certificate: Certificate, deployment_ids: Iterable[str], *, kind: str = ""
) -> CertificateMatrix:
    """Some deployments' losses, of one ``kind`` where it is given."""
    wanted = set(deployment_ids)
    by_deployment: dict[str, dict[FailureDomain, Loss]] = {}
    for loss in certificate.losses:
        if loss.deployment_id in wanted and kind in ("", loss.domain.kind):
            by_deployment.setdefault(loss.deployment, {})[loss.domain] = loss
    domains = sorted(
        {domain for losses in by_deployment.values() for domain in losses},
        key=lambda domain: (domain.kind, domain.name),
    )
    return CertificateMatrix(
        domains=tuple(map(str, domains)),
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
    tone = "" if loss.promised or loss.verdict == "survives" else "idle"
    said = f"{loss.replicas_left:.3g} of {loss.replicas_needed} replicas left"
    if not loss.promised:
        said += ", not promised"
    if loss.recovery_s:
        said += f", others start in {formatting.duration(loss.recovery_s)}"
    return CertificateCell(str(loss.domain), loss, loss.verdict, tone, said)
