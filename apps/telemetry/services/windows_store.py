"""Metric windows from the gateways: stored once; one that makes no sense is dropped with an event."""

from collections.abc import Sequence
from uuid import UUID

from apps.fleet.models import Cluster
from apps.telemetry.models import MetricWindow as WindowRow
from apps.telemetry.services.event_record import event_record
from apps.telemetry.services.spool_marks import spool_marks_advance
from apps.telemetry.services.spools import by_instance, unnameable_acknowledged
from apps.telemetry.wire_values import BIGINT_MAX, INTEGER_MAX, moment, uuid_or_none
from workloadplane.protocol.usage import LATENCY_BUCKETS_S, LatencyHistogram, MetricWindow
from workloadplane.words import counted


def windows_store(*, cluster: Cluster, windows: Sequence[MetricWindow]) -> dict[str, int]:
    """Store windows in the caller's transaction; gateway instance -> highest sequence to acknowledge."""
    if not windows:
        return {}
    named, acknowledged = unnameable_acknowledged(cluster=cluster, records=windows)
    rows = [row for window in named if (row := _row(window, cluster.pk)) is not None]
    WindowRow.objects.bulk_create(rows, batch_size=500, ignore_conflicts=True)
    if len(rows) < len(named):
        event_record(
            organization_id=cluster.organization_id,
            cluster_id=cluster.pk,
            severity="warning",
            reason="WindowsDropped",
            message=f"{counted(len(named) - len(rows), 'metric window')} from {cluster.name} with values out of range",
        )
    sequences = by_instance(named)
    return acknowledged | spool_marks_advance(cluster=cluster, kind="window_sequence", sequences=sequences)


def _row(window: MetricWindow, cluster_id: UUID) -> WindowRow | None:
    deployment_id, revision_id = uuid_or_none(window.deployment_id), uuid_or_none(window.revision_id)
    small = (window.requests, window.errors, window.in_flight_max, window.waiting_max)
    large = (window.input_tokens, window.output_tokens)
    if deployment_id is None or revision_id is None:
        return None
    if not all(0 <= n <= INTEGER_MAX for n in small) or not all(0 <= n <= BIGINT_MAX for n in large):
        return None
    if not all(_is_sound(h) for h in (window.ttft, window.inter_token_latency, window.duration)):
        return None
    try:
        started_at, ended_at = moment(window.started_at), moment(window.ended_at)
    except ValueError:
        return None
    return WindowRow(
        gateway_instance=window.gateway_instance,
        sequence=window.sequence,
        cluster_id=cluster_id,
        deployment_id=deployment_id,
        revision_id=revision_id,
        started_at=started_at,
        ended_at=ended_at,
        requests=window.requests,
        errors=window.errors,
        input_tokens=window.input_tokens,
        output_tokens=window.output_tokens,
        in_flight_max=window.in_flight_max,
        waiting_max=window.waiting_max,
        ttft_counts=list(window.ttft.counts),
        ttft_sum_s=window.ttft.sum_s,
        inter_token_latency_counts=list(window.inter_token_latency.counts),
        inter_token_latency_sum_s=window.inter_token_latency.sum_s,
        duration_counts=list(window.duration.counts),
        duration_sum_s=window.duration.sum_s,
    )


def _is_sound(histogram: LatencyHistogram) -> bool:
    whole = len(histogram.counts) == len(LATENCY_BUCKETS_S) + 1
    return whole and all(0 <= count <= INTEGER_MAX for count in histogram.counts)
