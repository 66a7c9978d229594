"""What gateways of several regions tell one another: which revisions have replicas ready, and how long they wait.

Each asks its peers twice a second, with its signed statement, on the pooled connections that requests use too, so
that there is always a warm one. The answer's way there and back is the round trip that peers are chosen by. What
was heard counts for a moment, on this gateway's own clock; after it the peer is unknown.
"""

import asyncio
import time
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from workloadplane.gateway.attempt import target_of
from workloadplane.gateway.peers import LIFETIME_S, PEER_HEADER, PeerStatement, sign
from workloadplane.gateway.upstream import ResponseHead
from workloadplane.protocol.routing import Peer
from workloadplane.routing.regions import RevisionLoad

if TYPE_CHECKING:
    from workloadplane.gateway.context import GatewayContext

LOAD_PATH = b"/.well-known/meridian/load"
ASK_EVERY_S = 0.5
_HOLDS_S = 2.0
_REVISIONS_MAX = 4096
_ANSWER_BYTES_MAX = 1024 * 1024
_RTT_SHARE = 0.2  # of a new measurement in the mean
_answers = msgspec.json.Decoder(dict[str, RevisionLoad])


def loads_here(context: "GatewayContext") -> dict[str, RevisionLoad]:
    """By revision, of this cluster as this process sees it."""
    registry, now_s = context.registry, monotonic()
    ready: dict[str, int] = {}
    deployment_of: dict[str, str] = {}
    for endpoint in registry.endpoints.values():
        deployment_of[endpoint.revision_id] = endpoint.deployment_id
        ready[endpoint.revision_id] = ready.get(endpoint.revision_id, 0) + (endpoint.state == "ready")
    told: dict[str, RevisionLoad] = {}
    for revision_id, count in list(ready.items())[:_REVISIONS_MAX]:
        deployment_id = deployment_of[revision_id]
        seats, service = registry.seats(deployment_id), context.room.service(deployment_id)
        waiting = context.room.waiting(deployment_id)
        wait_s = service.wait_s(waiting, seats, now_s) if service is not None and waiting else None
        told[revision_id] = RevisionLoad(count, wait_s or 0.0)
    return told


class _Asking:
    """One question to one peer."""

    def __init__(self, regions: "Regions", peer: Peer) -> None:
        self._regions = regions
        self._peer = peer
        self._status = 0
        self._body = b""
        self.sent_s = monotonic()
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_response(self, head: ResponseHead | None, data: bytes, complete: bool) -> None:
        if head is not None:
            self._status = head.status
        if len(self._body) + len(data) > _ANSWER_BYTES_MAX:
            self._status = 0
        else:
            self._body += data
        if complete:
            self._end()
            if self._status == 200:
                self._regions.heard(self._peer, self._body, self.sent_s)

    def on_upstream_lost(self, *, valid_http: bool) -> None:
        """It says nothing: what it said before grows old."""
        self._end()

    def _end(self) -> None:
        if not self.over.done():
            self.over.set_result(None)


class Regions:
    """One per process."""

    def __init__(self, context: "GatewayContext") -> None:
        self._context = context
        self._heard_s: dict[str, float] = {}
        self._rtt_ms: dict[str, float] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def ask(self) -> None:
        """Ask each peer that is not being asked, and forget what is old."""
        header = self._context.registry.header
        peers = {peer.cluster_id: peer for peer in header.peers} if header is not None else {}
        for name in [name for name, s in self._heard_s.items() if monotonic() - s > _HOLDS_S]:
            del self._heard_s[name]
            self._rtt_ms.pop(name, None)
            if name in peers:
                self._note(peers[name], {}, peers[name].rtt_ms)
        for name, peer in peers.items():
            task = self._tasks.get(name)
            if task is None or task.done():
                self._tasks[name] = asyncio.create_task(self._ask(peer))

    async def _ask(self, peer: Peer) -> None:
        context = self._context
        target, key = target_of(peer.url), context.private_key
        if target is None or key is None:
            return
        statement = PeerStatement(
            sender=context.registry.cluster_id,
            audience=peer.cluster_id,
            expires_at=time.time() + LIFETIME_S,
            request_id="load",
            api_key_id="",
            origin_region=context.registry.region,
            residency=(),
            may_hold=False,
        )
        try:
            connection = context.pool.take(target) or await context.pool.connect(target)
        except OSError:
            return
        head = b"GET %s HTTP/1.1\r\nhost: %s\r\n%s: %s\r\n\r\n" % (
            LOAD_PATH,
            target.authority.encode(),
            PEER_HEADER,
            sign(statement, key),
        )
        asking = _Asking(self, peer)
        try:
            connection.send(asking, head, b"")
            async with asyncio.timeout(_HOLDS_S):
                await asking.over
        except TimeoutError:
            pass  # as good as away; the next question takes a connection of its own
        finally:
            if not asking.over.done() or asking.over.cancelled():
                connection.abandon()

    def heard(self, peer: Peer, body: bytes, sent_s: float) -> None:
        """A peer's answer to what was asked at ``sent_s``."""
        try:
            loads = _answers.decode(body)
        except msgspec.DecodeError:
            return
        if any(load.ready < 0 or load.wait_s < 0 for load in loads.values()):
            return
        took_ms = 1000.0 * (monotonic() - sent_s)
        before = self._rtt_ms.get(peer.cluster_id, took_ms)
        rtt_ms = self._rtt_ms[peer.cluster_id] = before + _RTT_SHARE * (took_ms - before)
        self._heard_s[peer.cluster_id] = sent_s
        self._note(peer, loads, rtt_ms)

    def _note(self, peer: Peer, loads: dict[str, RevisionLoad], rtt_ms: float) -> None:
        facts = self._context.registry.peer_facts
        if peer.cluster_id in facts:
            facts[peer.cluster_id] = replace(facts[peer.cluster_id], rtt_ms=rtt_ms, loads=loads)

    def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
