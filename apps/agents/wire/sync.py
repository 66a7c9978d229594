"""One sync, from its bytes to its answer."""

import base64
import binascii
import time
from collections import OrderedDict
from dataclasses import dataclass
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from apps.agents.leases import wait_granted_s
from apps.agents.services import logs_accept, plane_behind_notice
from apps.agents.services.loads_store import LOADS_UPDATE, loads_parameters
from apps.agents.services.sync_accept import SyncOutcome, plane_behind, sync_accept
from apps.agents.wire import heartbeat
from apps.agents.wire.database import WireDatabase
from apps.agents.wire.doorbell import Bell, Doorbell
from apps.agents.wire.heartbeat import Beat
from apps.agents.wire.metrics import SYNCS
from apps.api.problems import Problem, field_problem
from apps.telemetry.wire_values import BIGINT_MAX, is_name, uuid_or_none
from workloadplane.protocol import WIRE_VERSION
from workloadplane.protocol.logs import LogsRequest, LogsResponse, LogWanted, logs_signed_bytes
from workloadplane.protocol.refusal import Refusal
from workloadplane.protocol.sync import SyncRequest, SyncResponse, sync_signed_bytes
from workloadplane.protocol.tables import TABLE_KINDS, TableUpdate

_decoder = msgspec.json.Decoder(SyncRequest)
_logs_decoder = msgspec.json.Decoder(LogsRequest)
_KEYS_CACHED_MAX = 10_000
#: A stranger who names a cluster can make us look for a new key of it so often in a second, and no more.
_KEY_READS_PER_S_MAX = 5


@dataclass
class _KnownKey:
    raw: bytes
    key: Ed25519PublicKey
    since: float
    reads: int = 1


class SyncEndpoint:
    """Answers syncs. Used by one event loop."""

    def __init__(self, database: WireDatabase, doorbell: Doorbell) -> None:
        self._database = database
        self._doorbell = doorbell
        self._keys: OrderedDict[UUID, _KnownKey] = OrderedDict()

    async def answer(self, *, cluster: str, signature: str, body: bytes) -> SyncResponse:
        """Verify, store, wait for news if there is none. Raises Problem, psycopg.OperationalError, Django's Error."""
        cluster_id = uuid_or_none(cluster)
        if cluster_id is None:
            raise _strange()
        public_key = await self._verified(cluster_id, signature, sync_signed_bytes(body))
        request = _decoded(body, cluster)
        with self._doorbell.bell(cluster) as bell:
            if request.observed is None and not request.usage and not request.windows:
                beat = await self._beat(request, cluster_id, public_key)
                if beat is not None:
                    SYNCS.labels(outcome="heartbeat").inc()
                    return await self._with_news(request, cluster_id, public_key, beat, bell)
            return await self._accepted(request, cluster_id, public_key)

    async def take_logs(self, *, cluster: str, signature: str, body: bytes) -> LogsResponse:
        """Verify and hold logs that somebody reads. Raises as ``answer``."""
        cluster_id = uuid_or_none(cluster)
        if cluster_id is None:
            raise _strange()
        public_key = await self._verified(cluster_id, signature, logs_signed_bytes(body))
        try:
            request = _logs_decoder.decode(body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise Problem("broken_json", f"the body is no logs of this wire: {str(error)[:200]}") from error
        if request.cluster_id != cluster:
            raise field_problem("/cluster_id", "is not the cluster of the header x-meridian-cluster")
        return await self._database.service(logs_accept, request=request, public_key=public_key)

    async def _verified(self, cluster_id: UUID, signature: str, message: bytes) -> bytes:
        """The raw public key that signed these bytes. Raises Problem ``unauthenticated``."""
        try:
            raw_signature = base64.b64decode(signature, validate=True)
        except (binascii.Error, ValueError) as error:
            raise _strange() from error
        known = self._keys.get(cluster_id)
        if known is not None and _signed(known.key, raw_signature, message):
            self._keys.move_to_end(cluster_id)
            return known.raw
        newest = await self._key_read_again(cluster_id, known)
        if not _signed(newest.key, raw_signature, message):
            raise _strange()
        return newest.raw

    async def _key_read_again(self, cluster_id: UUID, known: _KnownKey | None) -> _KnownKey:
        """The key that now speaks for a cluster. Raises Problem ``unauthenticated`` if none does."""
        now = time.monotonic()
        recent = known if known is not None and now - known.since < 1.0 else None
        if recent is not None and recent.reads >= _KEY_READS_PER_S_MAX:
            raise _strange()
        async with self._database.connection() as connection:
            raw = await heartbeat.public_key_of(connection, cluster_id)
        if raw is None:
            raise _strange()
        newest = _KnownKey(raw=raw, key=Ed25519PublicKey.from_public_bytes(raw), since=now)
        if recent is not None:
            newest.since, newest.reads = recent.since, recent.reads + 1
        self._keys[cluster_id] = newest
        if len(self._keys) > _KEYS_CACHED_MAX:
            self._keys.popitem(last=False)
        return newest

    async def _beat(self, request: SyncRequest, cluster_id: UUID, public_key: bytes) -> Beat | None:
        async with self._database.connection() as connection:
            beat = await heartbeat.heartbeat(
                connection, request=request, cluster_id=cluster_id, public_key=public_key
            )
            if beat is not None and request.loads:
                await connection.execute(LOADS_UPDATE, loads_parameters(cluster_id, request.loads))
            return beat

    async def _with_news(
        self, request: SyncRequest, cluster_id: UUID, public_key: bytes, beat: Beat, bell: Bell | None
    ) -> SyncResponse:
        """The answer to a heartbeat: at once if something is new, else when it is or when the time is up."""
        deadline = time.monotonic() + wait_granted_s(request.wait_s)
        latest: Beat | None = beat
        while not _is_news(request, beat) and bell is not None:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                break
            await bell.wait(remaining_s)
            async with self._database.connection() as connection:
                latest = await heartbeat.standing(
                    connection,
                    instance_id=request.instance_id,
                    cluster_epoch=request.cluster_epoch,
                    cluster_id=cluster_id,
                    public_key=public_key,
                )
            if latest is None:
                # Somebody else holds the cluster by now; the next sync will be told so, this one brings nothing.
                return _response(request, plane_epoch=beat.plane_epoch, cluster_epoch=request.cluster_epoch)
            beat = latest
        tables, refusal = await self._tables(request, cluster_id, beat)
        return _response(
            request,
            plane_epoch=beat.plane_epoch,
            cluster_epoch=request.cluster_epoch,
            tables=tables,
            observed_acknowledged=beat.observed_generation,
            observed_full_wanted=beat.full_wanted,
            refusal=refusal,
            logs_wanted=beat.logs_wanted if refusal is None else (),
        )

    async def _refused_as_behind(self, request: SyncRequest, cluster_id: UUID, plane_epoch: int) -> Refusal:
        """The answer to an agent that knows more than this database, which is told to an operator, too."""
        refusal = plane_behind(request.plane_epoch, plane_epoch)
        await self._database.service(plane_behind_notice, cluster_id=cluster_id, remedy=refusal.remedy)
        return refusal

    async def _tables(
        self, request: SyncRequest, cluster_id: UUID, beat: Beat
    ) -> tuple[dict[str, TableUpdate], Refusal | None]:
        since: dict[str, int] = {}
        for kind, generation in beat.generations.items():
            held = request.held.get(kind, 0)
            if request.plane_epoch < beat.plane_epoch and held > generation:
                held = 0
            if held > generation:
                # This plane was restored from a back-up and nobody has raised its epoch: nothing is rolled back.
                return {}, await self._refused_as_behind(request, cluster_id, beat.plane_epoch)
            if held < generation:
                since[kind] = held
        if not since:
            return {}, None
        async with self._database.connection() as connection:
            return await heartbeat.table_updates(connection, cluster_id=cluster_id, since=since), None

    async def _accepted(self, request: SyncRequest, cluster_id: UUID, public_key: bytes) -> SyncResponse:
        """The answer to a sync that reports something, or whose sender does not hold the cluster."""
        outcome = await self._database.service(sync_accept, request=request, public_key=public_key)
        if not outcome.authentic:
            self._keys.pop(cluster_id, None)
            raise _strange()
        tables: dict[str, TableUpdate] = {}
        refusal = outcome.refusal
        if request.plane_epoch > outcome.plane_epoch:
            refusal = await self._refused_as_behind(request, cluster_id, outcome.plane_epoch)
        SYNCS.labels(outcome=refusal.rule if refusal else "report").inc()
        if refusal is None:
            async with self._database.connection() as connection:
                beat = await heartbeat.standing(
                    connection,
                    instance_id=request.instance_id,
                    cluster_epoch=outcome.cluster_epoch,
                    cluster_id=cluster_id,
                    public_key=public_key,
                )
            if beat is not None:
                tables, refusal = await self._tables(request, cluster_id, beat)
        return _outcome_response(request, outcome, tables, refusal)


def _decoded(body: bytes, cluster: str) -> SyncRequest:
    """Raises Problem ``broken_json`` or ``invalid_document``."""
    try:
        request = _decoder.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Problem("broken_json", f"the body is no sync of this wire: {str(error)[:200]}") from error
    if request.cluster_id != cluster:
        raise field_problem("/cluster_id", "is not the cluster of the header x-meridian-cluster")
    if not 1 <= request.wire_version <= WIRE_VERSION + 1:
        remedy = f"speak version {WIRE_VERSION}"
        raise field_problem("/wire_version", "is not spoken here", value=request.wire_version, remedy=remedy)
    if not is_name(request.instance_id, 36):
        raise field_problem("/instance_id", "must be 1 to 36 printable characters")
    for name in ("sequence", "cluster_epoch", "plane_epoch"):
        if not 0 <= getattr(request, name) <= BIGINT_MAX:
            raise field_problem(f"/{name}", "is out of range")
    if any(not 0 <= generation <= BIGINT_MAX for generation in request.held.values()):
        raise field_problem("/held", "a generation is out of range")
    if request.observed is not None and not 0 <= request.observed.observed_generation <= BIGINT_MAX:
        raise field_problem("/observed/observed_generation", "is out of range")
    return request


def _signed(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _strange() -> Problem:
    return Problem(
        "unauthenticated",
        "not signed by an agent that is enrolled here; enrol with a new token",
        headers={"WWW-Authenticate": 'Meridian-Agent realm="meridian"'},
    )


def _is_news(request: SyncRequest, beat: Beat) -> bool:
    held = request.held
    return (
        beat.full_wanted
        or (bool(beat.logs_wanted) and request.logs_followed is False)
        or beat.plane_epoch != request.plane_epoch
        or any(held.get(kind, 0) != beat.generations.get(kind, 0) for kind in TABLE_KINDS)
    )


def _outcome_response(
    request: SyncRequest, outcome: SyncOutcome, tables: dict[str, TableUpdate], refusal: Refusal | None
) -> SyncResponse:
    return _response(
        request,
        plane_epoch=outcome.plane_epoch,
        cluster_epoch=outcome.cluster_epoch,
        tables=tables,
        observed_acknowledged=outcome.observed_acknowledged,
        observed_full_wanted=outcome.observed_full_wanted,
        usage_acknowledged=outcome.usage_acknowledged,
        windows_acknowledged=outcome.windows_acknowledged,
        refusal=refusal,
    )


def _response(
    request: SyncRequest,
    *,
    plane_epoch: int,
    cluster_epoch: int,
    tables: dict[str, TableUpdate] | None = None,
    observed_acknowledged: int = 0,
    observed_full_wanted: bool = False,
    usage_acknowledged: dict[str, int] | None = None,
    windows_acknowledged: dict[str, int] | None = None,
    refusal: Refusal | None = None,
    logs_wanted: tuple[LogWanted, ...] = (),
) -> SyncResponse:
    return SyncResponse(
        wire_version=min(request.wire_version, WIRE_VERSION),
        plane_epoch=plane_epoch,
        cluster_epoch=cluster_epoch,
        tables=tables or {},
        observed_acknowledged=observed_acknowledged,
        observed_full_wanted=observed_full_wanted,
        usage_acknowledged=usage_acknowledged or {},
        windows_acknowledged=windows_acknowledged or {},
        refusal=refusal,
        logs_wanted=logs_wanted,
    )
