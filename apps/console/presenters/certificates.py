"""What a plan survives as a table: deployments down, what may be lost across."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from apps.console import formatting
from controlplane.placement import Certificate, FailureDomain, Loss
from workloadplane.words import counted

#: A table of more losses than these begins with the regions.
COLUMNS_SHOWN = 12


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
    """Deployments × losses of one ``kind``, or of ``all``; ``kinds`` are those that there are."""

    kind: str
    kinds: tuple[str, ...]
    domains: tuple[DomainHead, ...]
    rows: tuple[CertificateRow, ...]


def certificate_matrix(
    certificate: Certificate, deployment_ids: Iterable[str], *, kind: str | None = None
) -> CertificateMatrix:
    """Some deployments' losses, of one ``kind`` where it is given (``all`` is every kind).

    Without a word, a table of more than ``COLUMNS_SHOWN`` columns begins with the regions alone.
    """
    wanted = set(deployment_ids)
    by_deployment: dict[str, dict[FailureDomain, Loss]] = {}
    for loss in certificate.losses:
        if loss.deployment_id in wanted:
            by_deployment.setdefault(loss.deployment, {})[loss.domain] = loss
    touched = {domain for losses in by_deployment.values() for domain in losses}
    kinds = tuple(dict.fromkeys(row.domain.kind for row in certificate.domains if row.domain in touched))
    if kind is None:
        kind = "region" if len(touched) > COLUMNS_SHOWN and "region" in kinds else "all"
    heads = [row for row in certificate.domains if row.domain in touched and kind in ("all", row.domain.kind)]
    domains = [row.domain for row in heads]
    by_demand = {row.deployment for row in certificate.promises if row.planned_by == "demand"}
    return CertificateMatrix(
        kind=kind,
        kinds=kinds,
        domains=tuple(
            DomainHead(
                name=str(row.domain),
                served_percent=formatting.floored_percent(row.served_share),
                broken=len(row.broken),
            )
            for row in heads
        ),
        rows=tuple(
            CertificateRow(name, _cells(domains, losses, by_demand=name in by_demand))
            for name, losses in sorted(by_deployment.items())
        ),
    )


def _cells(
    domains: Sequence[FailureDomain], losses: Mapping[FailureDomain, Loss], *, by_demand: bool
) -> tuple[CertificateCell, ...]:
    return tuple(
        _cell(losses[domain], by_demand=by_demand) if domain in losses else CertificateCell(str(domain), None)
        for domain in domains
    )


def _cell(loss: Loss, *, by_demand: bool) -> CertificateCell:
    """A verdict that nobody was promised is told, but alarms nobody. Replicas are counted where they are too few."""
    left = f"{loss.replicas_left:.3g} of {counted(loss.replicas_needed, 'replica')}"
    margin = f"{loss.margin:+.3g}"
    if by_demand and loss.margin >= 0:
        left = f"{formatting.floored_percent(loss.served_share):g} % of demand"
        margin = f"{100 * loss.margin_share:+.3g} %" if loss.margin_share < 10 else "over ten times"
    notes = [f"margin {margin}".replace("-", "−")]
    if loss.recovery_s is not None and loss.verdict != "survives":
        notes.append(f"back in {formatting.duration(loss.recovery_s)}")
    if not loss.promised:
        notes.append("not promised")
    return CertificateCell(
        domain=str(loss.domain),
        loss=loss,
        word=loss.verdict,
        tone="" if loss.promised or loss.verdict == "survives" else "idle",
        left=left,
        note=", ".join(notes),
    )
