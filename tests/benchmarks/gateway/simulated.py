"""The routing rows in simulated time: thousands of requests in seconds, for choices of policy over many seeds.

    python -m tests.benchmarks.gateway.simulated [--seeds 11,12,13] [--conversations 300] [--within 45]
        [--trace FILE] [--requests 1000] [--first 0] [--trace-within 300] [--policy bytes_per_load=65536,hot_slack=2]

The gateway's own registry, affinity and ``pick`` choose; the simulated engine's own batches compute. Left out is
everything between them: sockets, processes, and what the machine does meanwhile.

Two yardsticks. The oracle computes in no time, so it finds what in truth is still being computed, or waits to be,
when the next one that begins alike comes; the more so the faster they come. The seer is bound to time: it chooses
for the same engines by what is in their caches at that moment, or on its way there, and keeps the balance
request by request: no upper bound, for another order of the same choices may find more.
"""

import argparse
import heapq
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any, Protocol

import msgspec

from tests.benchmarks.gateway.conversations import (
    TRACE_WITHIN_S,
    Conversation,
    Turn,
    bodies,
    multi_turn,
    of_trace,
)
from tests.benchmarks.gateway.quality import ENGINE, IMBALANCE_MAX, REPLICAS, Served, oracle_share
from tests.support.gateway import endpoints
from tests.support.tables import Signer, header, revision, route
from workloadplane.engines.simulator.batching import ContinuousBatch, Work
from workloadplane.engines.simulator.requests import ChatRequest, decode, read_chat
from workloadplane.engines.simulator.settings import parse_settings
from workloadplane.engines.simulator.text import answer, block_hashes, split_tokens
from workloadplane.gateway.affinity import Affinity, Prompt
from workloadplane.gateway.body import InferenceBody
from workloadplane.gateway.registry import Registry
from workloadplane.protocol.local import EngineLoad, EngineLoads, Identity
from workloadplane.protocol.routing import Route
from workloadplane.routing import Policy, ToReplica, pick

_SETTINGS = parse_settings(ENGINE)
_LOADS_EVERY_S = 1.0
_SECRET = 7
_CLUSTER = "c-eu"
_ROUTE = route(revisions=(revision((_CLUSTER,)),))


@dataclass(frozen=True)
class _Asked:
    """One request as the gateway holds it, and as the engine does."""

    body: InferenceBody
    route: Route
    prompt: Prompt
    served: Served
    text: str
    adapter: str | None = None
    to_peer: bool = False


@dataclass
class Outcome:
    """What came of a run, in the routing rows' terms."""

    cached_share: float
    ttft_p50_ms: float
    ttft_p90_ms: float
    imbalance: float
    asked: list[Served] = field(repr=False)


class _Chooser(Protocol):
    def choose(self, asked: _Asked, now_s: float) -> tuple[int, float]:
        """The replica's place, and the burden to lift once the prompt is computed."""

    def lift(self, place: int, load: float) -> None: ...
    def ended(self, place: int, asked: _Asked) -> None: ...
    def hear(self, engines: Sequence[ContinuousBatch], now_s: float) -> None:
        """What the agent passes on of the engines' metrics and KV events."""


class _Seer:
    """Goes where most of the prompt is or will be, if that leaves the balance."""

    def __init__(self, engines: Sequence[ContinuousBatch]) -> None:
        self._engines = engines
        self._under_way: list[Counter[int]] = [Counter() for _ in engines]
        self._computed = [0] * len(engines)

    def choose(self, asked: _Asked, now_s: float) -> tuple[int, float]:
        served, size = asked.served, _SETTINGS.model.block_tokens
        within = served.hashes[: (served.prompt_tokens - 1) // size]
        found = [self._found(place, within) for place in range(REPLICAS)]
        anew = [served.prompt_tokens - blocks * size for blocks in found]
        total = sum(self._computed)
        fair = [
            place
            for place in range(REPLICAS)
            if (self._computed[place] + anew[place]) * REPLICAS <= IMBALANCE_MAX * (total + anew[place])
        ] or [min(range(REPLICAS), key=self._computed.__getitem__)]
        chosen = max(fair, key=lambda place: (found[place], -self._computed[place]))
        self._computed[chosen] += anew[chosen]
        self._under_way[chosen].update(served.hashes)
        return chosen, 0.0

    def _found(self, place: int, hashes: Sequence[int]) -> int:
        engine, under_way = self._engines[place], self._under_way[place]
        begun = range(len(hashes))
        return next(
            (n for n in begun if not (under_way[hashes[n]] or engine.matching_blocks(hashes[n : n + 1]))),
            len(hashes),
        )

    def lift(self, place: int, load: float) -> None:
        """It counts no burden."""

    def ended(self, place: int, asked: _Asked) -> None:
        self._under_way[place].subtract(asked.served.hashes)

    def hear(self, engines: Sequence[ContinuousBatch], now_s: float) -> None:
        """It sees for itself."""


class _Gateway:
    """The gateway's rooms for choosing, fed as its process feeds them."""

    def __init__(self, policy: Policy) -> None:
        signer = Signer()
        self.registry = Registry()
        self.registry.set_identity(
            Identity(cluster_id=_CLUSTER, cluster_name="eu", signing_keys=signer.public)
        )
        table = signer.routing(header(_CLUSTER), [_ROUTE], audience=_CLUSTER)
        assert self.registry.adopt_table("routing", table) is None
        self.registry.adopt_endpoints(endpoints(1, *range(1, REPLICAS + 1)))
        self.affinity = Affinity(self.registry, secret=_SECRET, policy=policy)
        self.rng = Random(1)
        self.names = list(self.registry.endpoints)
        self._stored = [0] * REPLICAS

    def choose(self, asked: _Asked, now_s: float) -> tuple[int, float]:
        snapshot = self.registry.snapshot(asked.route, now_s)
        facts = self.affinity.facts(asked, snapshot, frozenset())
        choice = pick(facts, snapshot, self.affinity.policy, self.rng)
        assert isinstance(choice, ToReplica), choice
        anew_bytes = self.affinity.routed(asked, choice, now_s)
        in_flight = self.registry.in_flight
        in_flight[choice.replica_id] = in_flight.get(choice.replica_id, 0) + 1
        return self.names.index(choice.replica_id), self.affinity.put_on(choice.replica_id, anew_bytes)

    def lift(self, place: int, load: float) -> None:
        self.affinity.lift(self.names[place], load)

    def ended(self, place: int, asked: _Asked) -> None:
        self.registry.in_flight[self.names[place]] -= 1

    def hear(self, engines: Sequence[ContinuousBatch], now_s: float) -> None:
        for place, engine in enumerate(engines):
            stored = sum(kind == "stored" for kind, _ in engine.take_events())
            self._stored[place] += stored * engine.model.block_tokens
        loads = tuple(
            EngineLoad(
                replica_id=self.names[place],
                at_monotonic_s=now_s,
                running=engine.running,
                waiting=engine.waiting,
                kv_cache_usage=engine.kv_cache_usage,
                kv_capacity_tokens=engine.model.kv_capacity_tokens,
                kv_stored_tokens_total=self._stored[place],
            )
            for place, engine in enumerate(engines)
        )
        self.affinity.take_loads(EngineLoads(loads=loads), now_s)
        self.affinity.sweep(now_s)


_HASHING = Affinity(Registry(), secret=_SECRET)


@lru_cache(maxsize=60_000)
def _read(body: bytes) -> _Asked:
    generation = read_chat(decode(body, ChatRequest), _SETTINGS)
    prompt = split_tokens(generation.prompts[0])
    said = answer(generation.prompts[0], generation.samplings[0])
    hashes = block_hashes([*prompt, *said.tokens], block_tokens=_SETTINGS.model.block_tokens)
    parsed = msgspec.json.decode(body, type=InferenceBody)
    return _Asked(
        parsed,
        _ROUTE,
        _HASHING.prompt_of(parsed, "project-1", None),
        Served(len(prompt), len(said.tokens), hashes),
        b"".join(said.pieces).decode(),
    )


def simulate(asked: Sequence[Conversation], policy: Policy | None) -> Outcome:
    """All conversations through one gateway; without a policy, through the seer."""
    engines = [ContinuousBatch(_SETTINGS.model) for _ in range(REPLICAS)]
    gateway: _Chooser = _Gateway(policy) if policy is not None else _Seer(engines)
    for engine in engines:
        engine.tell_events()
    due: list[tuple[float, int, Iterator[tuple[Turn, bytes]], bytes]] = []
    under_way: dict[int, tuple[int, float, float, _Asked, Iterator[tuple[Turn, bytes]]]] = {}
    sent: list[Served] = []
    ttft_s: list[float] = []
    prompt_tokens = cached_tokens = count = 0
    for conversation in asked:
        asking = bodies(conversation)
        turn, body = next(asking)
        count += 1
        heapq.heappush(due, (conversation.begins_s + turn.after_s, count, asking, body))
    hear_at_s = 0.0
    while due or under_way:
        engine = min(engines, key=lambda each: each.next_at_s if each.next_at_s is not None else 1e18)
        step_s = engine.next_at_s if engine.next_at_s is not None else 1e18
        due_s = due[0][0] if due else 1e18
        if hear_at_s <= min(step_s, due_s):
            gateway.hear(engines, hear_at_s)
            hear_at_s += _LOADS_EVERY_S
        elif due_s <= step_s:
            now_s, _, asking, body = heapq.heappop(due)
            request = _read(body)
            place, load = gateway.choose(request, now_s)
            count += 1
            under_way[count] = (place, load, now_s, request, asking)
            served = request.served
            engines[place].submit(
                Work(count, served.prompt_tokens, served.output_tokens, served.hashes), now_s=now_s
            )
            sent.append(served)
            prompt_tokens += served.prompt_tokens
        else:
            for each in engine.advance(step_s):
                place, load, began_s, request, asking = under_way[each.work_id]
                if each.position == 0:
                    ttft_s.append(each.at_s - began_s)
                    gateway.lift(place, load)
                    cached_tokens += engine.cached_tokens(each.work_id)
                if not each.last:
                    continue
                del under_way[each.work_id]
                engine.forget(each.work_id)
                gateway.ended(place, request)
                try:
                    turn, body = asking.send(request.text)  # type: ignore[attr-defined]
                except StopIteration:
                    continue
                count += 1
                heapq.heappush(due, (each.at_s + turn.after_s, count, asking, body))
    ttft_s.sort()
    work = [
        e.counters.prompt_tokens - e.counters.prompt_tokens_cached + e.counters.generation_tokens
        for e in engines
    ]
    return Outcome(
        cached_tokens / prompt_tokens,
        ttft_s[len(ttft_s) // 2] * 1000,
        ttft_s[int(len(ttft_s) * 0.9)] * 1000,
        max(work) * REPLICAS / sum(work),
        sent,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="11,12,13", help="of the generated conversations")
    parser.add_argument("--conversations", type=int, default=300)
    parser.add_argument("--within", type=float, default=45.0, help="seconds in which they begin")
    parser.add_argument("--trace", type=Path, help="Mooncake's trace besides")
    parser.add_argument("--requests", type=int, default=1000, help="of the trace's")
    parser.add_argument("--first", type=int, default=0, help="with which of the trace's requests to begin")
    parser.add_argument("--trace-within", type=float, default=TRACE_WITHIN_S, help="seconds for all of it")
    parser.add_argument("--policy", default="", help="fields of routing.Policy with other values")
    options = parser.parse_args()
    pairs = (pair.split("=") for pair in options.policy.split(",") if pair)
    changes: dict[str, Any] = {name: float(value) for name, value in pairs}
    policy = Policy(**changes)
    asked = {
        f"turns, seed {seed}": multi_turn(
            within_s=options.within, conversations=options.conversations, seed=int(seed)
        )
        for seed in options.seeds.split(",")
    }
    if options.trace:
        asked[options.trace.name] = of_trace(
            options.trace, within_s=options.trace_within, limit=options.requests, first=options.first
        )
    sys.stdout.write(
        "| | requests | cached share | of the oracle's | of a balanced one's | of the seer's | TTFT p50 ms |"
    )
    sys.stdout.write(" TTFT P90 ms | load max/mean |\n|---|" + "---:|" * 8 + "\n")
    for name, conversations in asked.items():
        came = simulate(conversations, policy)
        strict = came.cached_share / oracle_share(came.asked)
        balanced = came.cached_share / oracle_share(came.asked, imbalance_max=IMBALANCE_MAX)
        seen = came.cached_share / simulate(conversations, None).cached_share
        sys.stdout.write(
            f"| {name} | {len(came.asked)} | {came.cached_share:.3f} | {strict:.3f} | {balanced:.3f} | {seen:.3f} |"
            f" {came.ttft_p50_ms:.0f} | {came.ttft_p90_ms:.0f} | {came.imbalance:.2f} |\n"
        )


if __name__ == "__main__":
    main()
