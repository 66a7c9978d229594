"""What gateways of several regions tell one another: what they have of each revision, and how busy it is.

Each asks its peers about twice a second, at moments that differ, with its signed statement and on the pooled
connections that requests use too, so that there is always a warm one. The answer is signed by the peer for that
question. The round trip is the least that was measured in a while: whatever is more was somebody's being busy. What
was heard counts for a moment, on this gateway's own clock; after it the peer is unknown.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from secrets import token_hex
from time import monotonic
from typing import TYPE_CHECKING

from workloadplane.gateway.attempt import target_of
from workloadplane.gateway.loads import HOLDS_S, decoded
from workloadplane.gateway.peers import LIFETIME_S, PEER_HEADER, PeerStatement, is_answer_of, sign
from workloadplane.gateway.upstream import ResponseHead, Target
from workloadplane.protocol.routing import Peer
from workloadplane.routing.regions import RevisionLoad

if TYPE_CHECKING:
    from workloadplane.gateway.context import GatewayContext

LOAD_PATH = b"/.well-known/meridian/load"
TICK_S = 0.1
_ASK_EVERY_S = 0.5
_JITTER = 0.25
_RTT_WINDOW_S = 15.0
_ANSWER_BYTES_MAX = 1024 * 1024


class _Known:
    """What one peer said, and how far away it is. Times are monotonic."""

    def __init__(self) -> None:
        self.ask_at_s = -math.inf
        self.heard_s = -math.inf
        self.loads: Mapping[str, RevisionLoad] | None = None
        self.task: asyncio.Task[None] | None = None
        self._took_ms: deque[tuple[float, float]] = deque()

    def took(self, took_ms: float, now_s: float) -> None:
        """An answer came so soon."""
        while self._took_ms and self._took_ms[-1][1] >= took_ms:
            self._took_ms.pop()  # it will never be the least again
        self._took_ms.append((now_s, took_ms))
        while self._took_ms[0][0] < now_s - _RTT_WINDOW_S:
            self._took_ms.popleft()

    @property
    def rtt_ms(self) -> float | None:
        return self._took_ms[0][1] if self._took_ms else None


class _Asking:
    """One question to one peer, and its answer."""

    def __init__(self) -> None:
        self.sent_s = monotonic()
        self.head: ResponseHead | None = None
        self.body = b""
        self.ended_s = math.inf
        self.is_whole = False
        self.over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def on_response(self, head: ResponseHead | None, data: bytes, complete: bool) -> None:
        self.head = head or self.head
        if len(self.body) + len(data) > _ANSWER_BYTES_MAX:
            self._end(answered=False)
            return
        self.body += data
        if complete:
            self.is_whole = True
            self._end(answered=self.head is not None and self.head.status == 200)

    def on_upstream_lost(self, *, valid_http: bool) -> None:
        """It says nothing: what it said before grows old."""
        self._end(answered=False)

    def _end(self, *, answered: bool) -> None:
        if not self.over.done():
            self.ended_s = monotonic()
            self.over.set_result(answered)


class Regions:
    """One per process. ``on_heard``: called when a peer has spoken, for it may have found room."""

    def __init__(self, context: "GatewayContext", on_heard: Callable[[], None]) -> None:
        self._context = context
        self._on_heard = on_heard
        self._known: dict[str, _Known] = {}

    def tick(self) -> None:
        """Ask the peers whose time has come, forget what is old, and see how it stands here."""
        context, now_s = self._context, monotonic()
        registry = context.registry
        peers = {peer.cluster_id: peer for peer in registry.header.peers} if registry.header else {}
        registry.loads_here.clear()
        if peers:
            registry.loads_here.update(context.loads.here(registry, context.room, now_s))
        context.loads.sweep(now_s)
        context.affinity.abroad.sweep(registry.deployments, peers)
        for name in self._known.keys() - peers.keys():
            del self._known[name]
        for name, peer in peers.items():
            known = self._known.setdefault(name, _Known())
            if now_s - known.heard_s > HOLDS_S:
                known.loads = None
            self._tell(peer, known)
            if now_s >= known.ask_at_s and (known.task is None or known.task.done()):
                known.ask_at_s = now_s + _ASK_EVERY_S * context.rng.uniform(1.0 - _JITTER, 1.0 + _JITTER)
                known.task = asyncio.create_task(self._ask(peer, known))

    async def _ask(self, peer: Peer, known: _Known) -> None:
        context = self._context
        target, key = target_of(peer.url), context.private_key
        if target is None or key is None:
            return
        statement = PeerStatement(
            sender=context.registry.cluster_id,
            audience=peer.cluster_id,
            expires_at=time.time() + LIFETIME_S,
            request_id=f"load-{token_hex(8)}",  # no answer fits another question
            api_key_id="",
            origin_region=context.registry.region,
            residency=(),
            may_hold=False,
        )
        question = sign(statement, key)
        asking = await self._answer(target, question)
        if asking is None or asking.head is None:
            return
        value = asking.head.get(PEER_HEADER) or b""
        loads = decoded(asking.body) if is_answer_of(peer, question, asking.body, value) else None
        if loads is None:
            context.counters.refused_answers[peer.cluster_id] += 1
            return
        known.loads, known.heard_s = loads, asking.sent_s
        known.took(1000.0 * (asking.ended_s - asking.sent_s), asking.ended_s)
        self._tell(peer, known)
        self._on_heard()

    async def _answer(self, target: Target, question: bytes) -> _Asking | None:
        """The answer, if one comes in time; the next question takes another connection if not."""
        pool = self._context.pool
        try:
            connection = pool.take(target) or await pool.connect(target)
        except OSError:
            return None
        head = b"GET %s HTTP/1.1\r\nhost: %s\r\n%s: %s\r\n\r\n" % (
            LOAD_PATH,
            target.authority.encode(),
            PEER_HEADER,
            question,
        )
        asking = _Asking()
        answered = False
        try:
            connection.send(asking, head, b"")
            async with asyncio.timeout(HOLDS_S):
                answered = await asking.over
        except TimeoutError:
            pass
        finally:
            if not asking.is_whole:
                connection.abandon()
        return asking if answered else None

    def _tell(self, peer: Peer, known: _Known) -> None:
        """Let choices be made by it. A new routing table comes without what was heard."""
        facts = self._context.registry.peer_facts
        before = facts.get(peer.cluster_id)
        rtt_ms = peer.rtt_ms if known.loads is None or known.rtt_ms is None else known.rtt_ms
        if before is not None and (before.loads is not known.loads or before.rtt_ms != rtt_ms):
            facts[peer.cluster_id] = replace(before, rtt_ms=rtt_ms, loads=known.loads, sent={})

    def close(self) -> None:
        for known in self._known.values():
            if known.task is not None:
                known.task.cancel()
