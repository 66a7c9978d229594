"""Hold what an agent delivers of logs that somebody reads, and say what is read still."""

from uuid import UUID

from django.db import connection
from django.utils import timezone

from apps.agents.models import AgentSession, LogLines, LogWatch
from apps.api.services import one_transaction
from apps.telemetry.wire_values import BIGINT_MAX, uuid_or_none
from workloadplane.protocol.logs import (
    CHUNK_CHARS_MAX,
    LOGS_WANTED_MAX,
    LogChunk,
    LogsRequest,
    LogsResponse,
    LogWanted,
    log_text,
)

#: So many deliveries of a watch are held for those who read slowly; at most 2 MiB.
HELD_MAX = 32
#: Lines become visible in the order of their ids, or a reader's cursor would pass over some.
_ORDER_LOCK = 0x6D65726C


@one_transaction
def logs_accept(*, request: LogsRequest, public_key: bytes) -> LogsResponse:
    """Hold the chunks of watched logs; repetitions and what nobody reads are dropped.

    Who does not hold the cluster (any more) delivers nothing, and is told that nothing is wanted.
    """
    now = timezone.now()
    holds = AgentSession.objects.filter(
        cluster_id=request.cluster_id,
        instance_id=request.instance_id,
        cluster_epoch=min(max(request.cluster_epoch, 0), BIGINT_MAX),
        fenced_at=None,
        public_key=public_key,
    )
    if not holds.exists():
        return LogsResponse(wanted=())
    chunks = {uuid_or_none(chunk.watch_id): chunk for chunk in request.chunks[:LOGS_WANTED_MAX]}
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_ORDER_LOCK])
    watches = list(
        LogWatch.objects.select_for_update()
        .filter(cluster_id=request.cluster_id, wanted_until__gt=now)
        .order_by("pk")
    )
    for watch in watches:
        chunk = chunks.get(watch.pk)
        if chunk is not None and watch.last_sequence < chunk.sequence <= BIGINT_MAX:
            _hold(watch, chunk)
    return LogsResponse(
        wanted=tuple(LogWanted(watch_id=str(watch.pk), runtime_ref=watch.runtime_ref) for watch in watches)
    )


def _hold(watch: LogWatch, chunk: LogChunk) -> None:
    watch.last_sequence, watch.kept, watch.answered_at = chunk.sequence, chunk.kept, timezone.now()
    watch.save(update_fields=["last_sequence", "kept", "answered_at"])
    text = log_text(chunk.text[:CHUNK_CHARS_MAX])
    if text:
        LogLines.objects.create(watch=watch, text=text)
        _shorten(watch.pk)


def _shorten(watch_id: UUID) -> None:
    newest = LogLines.objects.filter(watch_id=watch_id).order_by("-pk").values_list("pk", flat=True)
    LogLines.objects.filter(watch_id=watch_id).exclude(pk__in=list(newest[:HELD_MAX])).delete()
