"""The socket on which this cluster's gateways learn what they may use, and tell how busy they are.

Each gateway gets the newest message of every kind and no other: a slow one holds back at most one message
per kind, whatever happens meanwhile. What it acknowledges and reports is evidence for draining: a replica is
clear when nobody who may still use it is left.
"""

import asyncio
import contextlib
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import structlog

from workloadplane.agent.peers import PeersSeen
from workloadplane.protocol.local import (
    Acknowledgement,
    DeploymentLoad,
    EndpointSet,
    EngineLoads,
    FromGateway,
    Hello,
    Identity,
    LoadReport,
    PlaneHeard,
    TablePush,
)
from workloadplane.protocol.observed import PeerStanding
from workloadplane.protocol.routing import RoutingHeader
from workloadplane.protocol.usage import LATENCY_BUCKETS_S

_log = structlog.get_logger(__name__)

#: A gateway's own lines are short; anything longer is not a gateway.
_LINE_BYTES_MAX = 4 * 1024 * 1024
#: Gateways report every 250 ms while something runs: silence this long after an acknowledgement is idleness.
_QUIET_S = 1.0
#: A gateway that lost its connection, or whose agent restarted, is back within this or is gone.
_RETURN_S = 5.0

ENDPOINTS = "endpoints"
PLANE_HEARD = "plane_heard"
ROUTING = "routing"
ENGINE_LOADS = "engine_loads"


@dataclass(slots=True, eq=False)
class _Link:
    """One connected gateway.

    acknowledged: endpoint generations and when, the newest last
    told:         of each revision the last that was told
    routing:      generation of the routing table that it has in force, 0 before it said so
    """

    instance: str = ""
    acknowledged: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=64))
    routing: int = 0
    load: LoadReport | None = None
    told: dict[tuple[str, str], DeploymentLoad] = field(default_factory=dict)
    load_at: float = 0.0
    outbox: dict[str, bytes] = field(default_factory=dict)
    has_mail: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class RevisionLoad:
    """Requests that all gateways together have at hand for one revision."""

    in_flight: int
    waiting: int


@dataclass(slots=True)
class Finished:
    """What all gateways together have finished of one revision since this agent began to listen; only rises.

    ttft_counts: first tokens by bucket of ``LATENCY_BUCKETS_S`` and the open one
    """

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    ttft_counts: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BUCKETS_S) + 1))

    def add(self, told: DeploymentLoad, before: DeploymentLoad) -> None:
        """What one gateway process has finished between two reports."""
        if told.requests_total < before.requests_total:
            return  # it began anew, and this is its first word
        self.requests += told.requests_total - before.requests_total
        self.input_tokens += max(0, told.input_tokens_total - before.input_tokens_total)
        self.output_tokens += max(0, told.output_tokens_total - before.output_tokens_total)
        if len(told.ttft_counts) == len(before.ttft_counts) == len(self.ttft_counts):
            for number, (now, then) in enumerate(zip(told.ttft_counts, before.ttft_counts, strict=True)):
                self.ttft_counts[number] += max(0, now - then)


class GatewayHub:
    """Serves the gateways of one cluster. One event loop owns it; times are of the monotonic clock."""

    def __init__(
        self,
        *,
        on_news: Callable[[], None],
        on_load: Callable[[], None],
        on_behind: Callable[[int], None],
        on_peers: Callable[[], None],
    ) -> None:
        """Callbacks: an acknowledgement or a departure; a load report; a gateway holds later endpoints; a peer was
        lost or returned.
        """
        self._on_news = on_news
        self._on_load = on_load
        self._on_behind = on_behind
        self._on_peers = on_peers
        self._peers = PeersSeen()
        self._links: set[_Link] = set()
        self._missing: dict[str, float] = {}
        self._parted: dict[str, tuple[float, int]] = {}  # when, and the routing generation in force there
        self._routing_generation = 0
        self._lease_s = 0.0
        self._latest: dict[str, bytes] = {}
        self.finished: dict[tuple[str, str], Finished] = {}
        self._endpoint_generation = 0
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._opened_at = time.monotonic()

    async def open(self, path: Path) -> None:
        """Serve on a unix socket at ``path``, mode 0600; a stale one there is removed. Raises OSError."""
        listener = _bound(path)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=_LINE_BYTES_MAX)
        self._opened_at = time.monotonic()

    async def close(self) -> None:
        """Stop serving; gateways go on with what they hold."""
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    @property
    def connected(self) -> int:
        return len(self._links)

    def present(self) -> int | None:
        """Gateways that are connected, or were a moment ago; None while those of a former life may still return."""
        now = time.monotonic()
        count = len(self._links) + len(self._lately(now))
        return count if count or now - self._opened_at >= _RETURN_S else None

    def _lately(self, now: float) -> dict[str, float]:
        """Gateways that have gone and may still return, and when they went."""
        self._missing = {name: at for name, at in self._missing.items() if now - at < _RETURN_S}
        return self._missing

    def publish(self, message: EndpointSet | TablePush | Identity | PlaneHeard | EngineLoads) -> None:
        """Send to all who are connected and to all who will be."""
        kind = _kind(message)
        if isinstance(message, EndpointSet):
            self._endpoint_generation = message.endpoint_generation
        elif isinstance(message, TablePush) and kind == ROUTING:
            self._routing_generation = message.table.generation
            self._lease_s = max(self._lease_s, _lease_s(message))
        line = msgspec.json.encode(message) + b"\n"
        self._latest[kind] = line
        for link in self._links:
            _mail(link, kind, line)

    def routing_in_force(self) -> int:
        """A routing generation that no gateway which may serve by a lease is behind; 0 while that is not known.

        One that is not connected hears nothing, so it serves nothing of the kind any more once its lease is over.
        """
        now = time.monotonic()
        if now - self._opened_at < self._lease_s:
            return 0  # those of this agent's former life
        self._parted = {
            name: (at, held) for name, (at, held) in self._parted.items() if now - at < self._lease_s
        }
        behind = [link.routing for link in self._links] + [held for _, held in self._parted.values()]
        return min(behind, default=self._routing_generation)

    def is_clear(self, replica_id: str, *, since_generation: int) -> bool:
        """Whether no gateway can still use a replica that was not ready any more from that generation on."""
        now = time.monotonic()
        if self._lately(now) or (not self._links and now - self._opened_at < _RETURN_S):
            return False
        return all(_is_idle(link, replica_id, since_generation, now) for link in self._links)

    def in_flight(self, replica_id: str) -> int:
        """Requests that gateways say they have on a replica."""
        return sum(link.load.in_flight_by_replica.get(replica_id, 0) for link in self._links if link.load)

    def avoided(self) -> set[str]:
        """Replicas that some gateway avoids, by what it has seen of them."""
        return {name for link in self._links if link.load for name in link.load.ejected}

    def loads(self) -> dict[tuple[str, str], RevisionLoad] | None:
        """(deployment, revision) -> load; a revision without one is idle. None: one has not told, or there is none."""
        if not self._links or any(link.load is None for link in self._links):
            return None
        totals: dict[tuple[str, str], RevisionLoad] = {}
        for link in self._links:
            for entry in link.load.deployments if link.load else ():
                key = (entry.deployment_id, entry.revision_id)
                before = totals.get(key, RevisionLoad(0, 0))
                totals[key] = RevisionLoad(before.in_flight + entry.in_flight, before.waiting + entry.waiting)
        return totals

    def peers(self) -> tuple[PeerStanding, ...]:
        """Other clusters as gateways that are connected see them."""
        return self._peers.standings(time.monotonic())

    def _look_at_peers(self) -> None:
        told = (link.load.peers for link in self._links if link.load)
        if self._peers.take(told, time.monotonic()):
            self._on_peers()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
        link = _Link()
        sender: asyncio.Task[None] | None = None
        try:
            hello = msgspec.json.decode(await reader.readline(), type=Hello)
            link.instance = hello.gateway_instance
            self._links.add(link)
            self._missing.pop(link.instance, None)
            self._parted.pop(link.instance, None)
            _log.info("gateway connected", gateway_instance=link.instance, gateway_pid=hello.pid)
            for kind, line in self._latest.items():
                _mail(link, kind, line)
            sender = asyncio.create_task(_send(link, writer))
            await self._receive(link, reader)
        except (msgspec.DecodeError, ValueError) as error:
            _log.warning("not a gateway's line on the agent's socket", error=str(error)[:200])
        except (ConnectionError, asyncio.CancelledError):
            pass  # cancelled only by ``close``; the stream server would report it as a fault
        finally:
            await self._part(link, sender, writer)

    async def _receive(self, link: _Link, reader: asyncio.StreamReader) -> None:
        decoder = msgspec.json.Decoder(FromGateway)
        while line := await reader.readline():
            message = decoder.decode(line)
            now = time.monotonic()
            if isinstance(message, LoadReport):
                link.load, link.load_at = message, now
                self._count(link, message)
                self._look_at_peers()
                self._on_load()
            elif isinstance(message, Acknowledgement):
                self._note(link, message, now)

    def _count(self, link: _Link, report: LoadReport) -> None:
        """Add up what has finished since this gateway's last report. Its first one says where it begins."""
        for told in report.deployments:
            key = (told.deployment_id, told.revision_id)
            before = link.told.get(key)
            link.told[key] = told
            if before is not None:
                self.finished.setdefault(key, Finished()).add(told, before)

    def forget_finished(self, living: Set[tuple[str, str]]) -> None:
        """Forget what was finished of others than these revisions."""
        self.finished = {key: value for key, value in self.finished.items() if key in living}
        for link in self._links:
            link.told = {key: value for key, value in link.told.items() if key in living}

    def _note(self, link: _Link, message: Acknowledgement, now: float) -> None:
        if message.kind == ROUTING:
            link.routing = message.generation
            self._on_news()
        if message.kind != ENDPOINTS:
            return
        link.acknowledged.append((message.generation, now))
        if message.generation > self._endpoint_generation:
            self._on_behind(message.generation)
        self._on_news()

    async def _part(
        self, link: _Link, sender: asyncio.Task[None] | None, writer: asyncio.StreamWriter
    ) -> None:
        if link in self._links:
            self._links.discard(link)
            self._missing[link.instance] = time.monotonic()
            self._parted[link.instance] = (time.monotonic(), link.routing)
            _log.info("gateway disconnected", gateway_instance=link.instance)
            self._look_at_peers()
            self._on_news()
        if sender is not None:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def _bound(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(os.fspath(path))
    path.chmod(0o600)
    return listener


def _kind(message: EndpointSet | TablePush | Identity | PlaneHeard | EngineLoads) -> str:
    if isinstance(message, TablePush):
        return message.kind
    if isinstance(message, PlaneHeard):
        return PLANE_HEARD
    if isinstance(message, EngineLoads):
        return ENGINE_LOADS
    return ENDPOINTS if isinstance(message, EndpointSet) else "identity"


def _lease_s(message: TablePush) -> float:
    """For how long gateways serve by a routing table after the plane was heard; not at all by one they can't read."""
    try:
        return msgspec.json.decode(message.table.contents().header, type=RoutingHeader).hard_ttl_s
    except msgspec.DecodeError:
        return 0.0


def _mail(link: _Link, kind: str, line: bytes) -> None:
    link.outbox[kind] = line
    link.has_mail.set()


async def _send(link: _Link, writer: asyncio.StreamWriter) -> None:
    """Write the newest of each kind; identity and tables before the lease and the endpoints that lean on them."""
    with contextlib.suppress(ConnectionError):
        while True:
            await link.has_mail.wait()
            link.has_mail.clear()
            while link.outbox:
                kind = min(link.outbox, key=_SENDING_ORDER.index)
                writer.write(link.outbox.pop(kind))
                await writer.drain()


_SENDING_ORDER = ("identity", "keyset", ROUTING, "desired", PLANE_HEARD, ENDPOINTS, ENGINE_LOADS)


def _is_idle(link: _Link, replica_id: str, since_generation: int, now: float) -> bool:
    """Whether a gateway holds that generation and has, since then, reported nothing on the replica."""
    times = [at for generation, at in link.acknowledged if generation >= since_generation]
    if not times:
        return False
    acknowledged_at = times[0]
    busy = link.load is not None and link.load.in_flight_by_replica.get(replica_id, 0) > 0
    reported_since = link.load_at > acknowledged_at
    return not busy and (reported_since or now - acknowledged_at >= _QUIET_S)
