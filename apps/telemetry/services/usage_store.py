"""Usage from the clusters: stored once, acknowledged when stored, never lost and never in the way.

A record that cannot be booked (a project that is not the organization's, values out of range) is put aside as it
came and acknowledged like the others.
"""

from collections.abc import Collection, Sequence
from uuid import UUID

import msgspec

from apps.accounts import selectors as accounts
from apps.fleet.models import Cluster
from apps.telemetry.models import UsageQuarantine
from apps.telemetry.models import UsageRecord as UsageRow
from apps.telemetry.services.event_record import event_record
from apps.telemetry.services.spool_marks import spool_marks_advance
from apps.telemetry.services.spools import by_instance, unnameable_acknowledged
from apps.telemetry.wire_values import BIGINT_MAX, SMALLINT_MAX, is_name, moment, uuid_or_none
from workloadplane.protocol.usage import REQUEST_ID_CHARS_MAX, UsageRecord
from workloadplane.words import counted

#: A month: no request holds more.
_AUDIO_S_MAX = 30 * 86_400.0


def usage_store(*, cluster: Cluster, records: Sequence[UsageRecord]) -> dict[str, int]:
    """Store records in the caller's transaction; gateway instance -> highest sequence to acknowledge."""
    if not records:
        return {}
    project_ids = accounts.project_ids(organization_id=cluster.organization_id)
    named, acknowledged = unnameable_acknowledged(cluster=cluster, records=records)
    good: list[UsageRow] = []
    aside: list[UsageQuarantine] = []
    for record in named:
        row = _row(record, cluster.pk, project_ids)
        if isinstance(row, UsageRow):
            good.append(row)
        else:
            aside.append(
                UsageQuarantine(
                    gateway_instance=record.gateway_instance,
                    sequence=record.sequence,
                    reported_by_cluster_id=cluster.pk,
                    reason=row,
                    record=msgspec.json.encode(record),
                )
            )
    UsageRow.objects.bulk_create(good, batch_size=1000, ignore_conflicts=True)
    if aside:
        UsageQuarantine.objects.bulk_create(aside, batch_size=1000, ignore_conflicts=True)
        event_record(
            organization_id=cluster.organization_id,
            cluster_id=cluster.pk,
            severity="warning",
            reason="UsageQuarantined",
            message=f"{counted(len(aside), 'usage record')} from {cluster.name} cannot be booked: {aside[0].reason}",
        )
    sequences = by_instance(named)
    return acknowledged | spool_marks_advance(cluster=cluster, kind="usage_sequence", sequences=sequences)


def _row(record: UsageRecord, cluster_id: UUID, project_ids: Collection[UUID]) -> UsageRow | str:
    """The row of a record, or why there is none."""
    project_id = uuid_or_none(record.project_id)
    api_key_id = uuid_or_none(record.api_key_id)
    deployment_id, revision_id = uuid_or_none(record.deployment_id), uuid_or_none(record.revision_id)
    if project_id is None or project_id not in project_ids:
        return "project_id is of no project of this organization"
    if api_key_id is None or deployment_id is None or revision_id is None:
        return "api_key_id, deployment_id and revision_id must be UUIDs"
    wrong = _out_of_range(record)
    if wrong is not None:
        return f"{wrong} is out of range"
    return UsageRow(
        gateway_instance=record.gateway_instance,
        sequence=record.sequence,
        request_id=record.request_id,
        finished_at=moment(record.finished_at),
        project_id=project_id,
        api_key_id=api_key_id,
        deployment_id=deployment_id,
        revision_id=revision_id,
        replica_id=_uuid_or_null(record.replica_id),
        pool_id=_uuid_or_null(record.pool_id),
        reported_by_cluster_id=cluster_id,
        served_cluster_id=_uuid_or_null(record.served_cluster_id),
        origin=record.origin,
        request_class=record.request_class,
        route=record.route,
        status=record.status,
        outcome=record.outcome,
        input_tokens=record.input_tokens,
        cached_tokens=record.cached_tokens,
        output_tokens=record.output_tokens,
        queue_s=record.queue_s,
        ttft_s=record.ttft_s,
        duration_s=record.duration_s,
        inter_token_latency_s_mean=record.inter_token_latency_s_mean,
        inter_token_latency_s_max=record.inter_token_latency_s_max,
        audio_input_s=record.audio_input_s,
        input_characters=record.input_characters,
    )


def _uuid_or_null(text: str | None) -> UUID | None:
    return None if text is None else uuid_or_none(text)


def _out_of_range(record: UsageRecord) -> str | None:
    """The name of a field that its column cannot hold."""
    names = {"request_id": REQUEST_ID_CHARS_MAX, "origin": 63, "route": 63, "outcome": 16}
    for field, characters in names.items():
        if not is_name(getattr(record, field), characters):
            return field
    for field in ("input_tokens", "cached_tokens", "output_tokens", "input_characters"):
        if not 0 <= getattr(record, field) <= BIGINT_MAX:
            return field
    if not 0 <= record.audio_input_s <= _AUDIO_S_MAX:
        return "audio_input_s"
    if not 0 <= record.status <= SMALLINT_MAX:
        return "status"
    try:
        moment(record.finished_at)
    except ValueError:
        return "finished_at"
    return None
