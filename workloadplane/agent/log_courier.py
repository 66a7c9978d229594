"""Carries replicas' logs to the control plane while somebody reads them there, and stops by itself.

A sync's answer says that logs are wanted; each delivery's answer says which still are. When the control plane is away
for longer than a reader's lease the courier forgets all: a sync will wake it again.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from workloadplane.agent.control import ControlClient, ControlError
from workloadplane.agent.disk import AgentIdentity
from workloadplane.protocol import WIRE_VERSION
from workloadplane.protocol.logs import (
    CHUNK_CHARS_MAX,
    LOGS_WANTED_MAX,
    LogChunk,
    LogsRequest,
    LogWanted,
    log_text,
)
from workloadplane.runtimes.base import LogPosition, Runtime

_log = structlog.get_logger(__name__)

_EVERY_S = 1.0
_GIVEN_UP_AFTER_S = 15.0
#: Bytes become no more characters than they are, so that a chunk is never over its bound.
_READ_BYTES = CHUNK_CHARS_MAX - 1024


@dataclass
class _Followed:
    wanted: LogWanted
    position: LogPosition | None = None
    #: Of the clock, so that it rises over restarts too.
    sequence: int = field(default_factory=lambda: int(time.time() * 1000))


class LogCourier:
    """Follows the logs that are wanted. ``is_following`` is what syncs tell."""

    def __init__(
        self,
        client: ControlClient,
        runtime: Runtime,
        *,
        identity: Callable[[], AgentIdentity],
        instance_id: str,
    ) -> None:
        self._client = client
        self._runtime = runtime
        self._identity = identity
        self._instance_id = instance_id
        self._followed: dict[str, _Followed] = {}
        self._wanted = asyncio.Event()

    @property
    def is_following(self) -> bool:
        return bool(self._followed)

    def want(self, wanted: Sequence[LogWanted]) -> None:
        """Begin with these; those that are followed already go on."""
        for item in wanted[: LOGS_WANTED_MAX - len(self._followed)]:
            self._followed.setdefault(item.watch_id, _Followed(item))
        if self._followed:
            self._wanted.set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            heard_at = time.monotonic()
            while self._followed:
                try:
                    await self._deliver()
                    heard_at = time.monotonic()
                except ControlError as error:
                    _log.warning("logs not delivered", reason=str(error))
                    if time.monotonic() - heard_at > _GIVEN_UP_AFTER_S:
                        self._followed.clear()
                await asyncio.sleep(_EVERY_S)

    async def _deliver(self) -> None:
        """Send what is new, and hear what is wanted. Raises ControlError; what it kept back is sent the next time."""
        identity = self._identity()
        read = [(followed, *await self._chunk(followed)) for followed in tuple(self._followed.values())]
        request = LogsRequest(
            wire_version=WIRE_VERSION,
            cluster_id=identity.cluster_id,
            instance_id=self._instance_id,
            cluster_epoch=identity.cluster_epoch,
            chunks=tuple(chunk for _, chunk, _ in read),
        )
        response = await self._client.logs(request)
        for followed, chunk, position in read:
            followed.sequence, followed.position = chunk.sequence, position
        wanted = {item.watch_id for item in response.wanted}
        self._followed = {key: followed for key, followed in self._followed.items() if key in wanted}
        self.want(response.wanted)

    async def _chunk(self, followed: _Followed) -> tuple[LogChunk, LogPosition | None]:
        try:
            piece = await self._runtime.log_after(
                followed.wanted.runtime_ref, followed.position, max_bytes=_READ_BYTES
            )
        except OSError as error:
            _log.warning("a replica's log can't be read", reason=str(error))
            piece = None
        chunk = LogChunk(
            watch_id=followed.wanted.watch_id,
            sequence=followed.sequence + 1,
            text=log_text(piece.text)[:CHUNK_CHARS_MAX] if piece else "",
            kept=piece is not None,
        )
        return chunk, piece.position if piece else followed.position
