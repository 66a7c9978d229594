"""What usage records and metric windows have in common: they come from a gateway instance's spool, numbered."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from apps.fleet.models import Cluster
from apps.telemetry.services.event_record import event_record
from apps.telemetry.wire_values import BIGINT_MAX, is_name
from workloadplane.words import counted


class Spooled(Protocol):
    """A numbered record of a spool."""

    @property
    def gateway_instance(self) -> str: ...

    @property
    def sequence(self) -> int: ...


S = TypeVar("S", bound=Spooled)


def by_instance(records: Iterable[Spooled]) -> dict[str, list[int]]:
    """Gateway instance -> the sequences of its records."""
    sequences: dict[str, list[int]] = defaultdict(list)
    for record in records:
        sequences[record.gateway_instance].append(record.sequence)
    return dict(sequences)


def unnameable_acknowledged(*, cluster: Cluster, records: Sequence[S]) -> tuple[list[S], dict[str, int]]:
    """The records that can be told apart, and an acknowledgement for those that cannot.

    A record without a usable instance and sequence can neither be stored once nor put aside; it is dropped with an
    event, or its agent would deliver it for ever.
    """
    named = [record for record in records if _is_nameable(record)]
    dropped: dict[str, int] = {}
    for record in records:
        if not _is_nameable(record):
            highest = max(dropped.get(record.gateway_instance, 0), record.sequence)
            dropped[record.gateway_instance] = highest
    if dropped:
        event_record(
            organization_id=cluster.organization_id,
            cluster_id=cluster.pk,
            severity="error",
            reason="SpoolUnreadable",
            message=(
                f"{counted(len(records) - len(named), 'record')} from {cluster.name} without a gateway instance and"
                " sequence that could be theirs: dropped"
            ),
        )
    return named, dropped


def _is_nameable(record: Spooled) -> bool:
    return is_name(record.gateway_instance, 36) and 1 <= record.sequence <= BIGINT_MAX
