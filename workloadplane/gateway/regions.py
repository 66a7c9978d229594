"""What gateways of several regions tell one another: if they are ready, how busy they are, what they see of the others.

Each asks its peers every 0.25 to 0.5 s, at moments that differ, with its signed statement and on the pooled
connections that requests use too, so that there is always a warm one. The answer is signed by the peer for that
question; whether it comes, or what comes instead, is a sign of the peer's state (``vantage``). The round trip is the
least that was measured in a while: whatever is more was somebody's being busy. What was heard counts for a moment, on
this gateway's own clock; after it the peer's load is unknown.
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
from workloadplane.gateway.loads import HOLDS_S, decoded_word
from workloadplane.gateway.peers import LIFETIME_S, PEER_HEADER, PeerStatement, is_answer_of, sign
from workloadplane.gateway.upstream import ResponseHead, Target
from workloadplane.health.watch import Sign
from workloadplane.protocol.routing import Peer
from workloadplane.routing.regions import RevisionLoad

if TYPE_CHECKING:
    from workloadplane.gateway.context import GatewayContext

LOAD_PATH = b"/.well-known/meridian/load"
TICK_S = 0.05
_ASK_EVERY_S = (0.25, 0.45)  # and up to a tick more
_ASK_AGAIN_S = 0.2
_OWN_LOADS_S = 0.1
_RTT_WINDOW_S = 15.0
_ANSWER_BYTES_MAX = 1024 * 1024


class _Known:
    """What one peer said, and how far away it is. Times are monotonic."""

    def __init__(self) -> None:
        self.ask_at_s = -math.inf
        self.asked_s = -math.inf
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
        self.broken = False
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
        self.broken = True
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
        self._own_loads_s = -math.inf

    def tick(self) -> None:
        """Ask the peers whose time has come, forget what is old, and see how it stands here."""
        context, now_s = self._context, monotonic()
        registry = context.registry
        peers = {peer.cluster_id: peer for peer in registry.header.peers} if registry.header else {}
        if now_s - self._own_loads_s >= _OWN_LOADS_S:
            self._own_loads_s = now_s
            self._look_here(peers, now_s)
        if context.vantage.tick(now_s):
            for relay in list(context.relays):
                relay.on_sweep(now_s)  # what is at a peer that is lost goes on elsewhere
        for name in self._known.keys() - peers.keys():
            del self._known[name]
        for name, peer in peers.items():
            known = self._known.setdefault(name, _Known())
            if now_s - known.heard_s > HOLDS_S:
                known.loads = None
            self._tell(peer, known)
            is_due = now_s >= known.ask_at_s or (
                name in context.vantage.urgent and now_s >= known.asked_s + _ASK_AGAIN_S
            )
            if is_due and (known.task is None or known.task.done()):
                context.vantage.urgent.discard(name)
                known.asked_s = now_s
                known.ask_at_s = now_s + context.rng.uniform(*_ASK_EVERY_S)
                known.task = asyncio.create_task(self._ask(peer, known))

    def _look_here(self, peers: Mapping[str, Peer], now_s: float) -> None:
        """How it stands in this region, and what is known of caches abroad."""
        context = self._context
        registry = context.registry
        registry.loads_here.clear()
        if peers:
            registry.loads_here.update(context.loads.here(registry, context.room, now_s))
        context.loads.sweep(now_s)
        context.affinity.abroad.sweep(registry.deployments, peers)

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
        asking = await self._answer(peer.cluster_id, target, question)
        if asking is None or asking.head is None:
            return
        value = asking.head.get(PEER_HEADER) or b""
        word = decoded_word(asking.body) if is_answer_of(peer, question, asking.body, value) else None
        if word is None:
            context.counters.refused_answers[peer.cluster_id] += 1
            return
        seen: Sign = "answered" if word.ready else "unready"
        context.vantage.sees(peer.cluster_id, seen, monotonic(), word.seen, asking.sent_s)
        known.loads, known.heard_s = word.loads, asking.sent_s
        known.took(1000.0 * (asking.ended_s - asking.sent_s), asking.ended_s)
        self._tell(peer, known)
        self._on_heard()

    async def _answer(self, cluster_id: str, target: Target, question: bytes) -> _Asking | None:
        """The answer, if one comes in time; the next question takes another connection if not."""
        pool, vantage = self._context.pool, self._context.vantage
        try:
            connection = pool.take(target) or await pool.connect(target)
        except ConnectionRefusedError:
            vantage.sees(cluster_id, "refused", monotonic())
            return None
        except OSError:
            return None  # not in time, or no way there: a silence, and no word from there
        head = b"GET %s HTTP/1.1\r\nhost: %s\r\n%s: %s\r\n\r\n" % (
            LOAD_PATH,
            target.authority.encode(),
            PEER_HEADER,
            question,
        )
        asking = _Asking()
        answered, was_fresh = False, connection.fresh
        try:
            connection.send(asking, head, b"")
            async with asyncio.timeout(HOLDS_S):
                answered = await asking.over
        except TimeoutError:
            pass
        finally:
            if not asking.is_whole:
                connection.abandon()
        if asking.broken and was_fresh:
            vantage.sees(cluster_id, "broken", monotonic())
        elif asking.broken:
            vantage.urgent.add(cluster_id)  # it may have closed while it lay in the pool
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
