"""How well a gateway chooses: eight simulated replicas with vLLM's prefix caching behind it, a trace in front of it.

The replicas are real processes of ``workloadplane.engines.simulator``. What the caches spared is told by the
engines themselves, in each answer's usage. The oracle sees every cache: the same requests in the same order, each
sent where most of its prompt lies, whatever the load.
"""

import asyncio
import contextlib
import http.client
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.gateway.candidates import (
    CACHE_AWARE,
    ENGINE_KEY,
    MERIDIAN,
    Candidate,
    candidate,
    running,
    spawn,
    told,
)
from tests.benchmarks.gateway.conversations import TRACE_WITHIN_S, Conversation, bodies, multi_turn, of_trace
from tests.benchmarks.gateway.rows import Plan
from tests.benchmarks.goals import Figures, Goal, Row
from workloadplane.engines.simulator.kvcache import KvCache
from workloadplane.engines.simulator.requests import ChatRequest, decode, read_chat
from workloadplane.engines.simulator.settings import parse_settings
from workloadplane.engines.simulator.text import answer, block_hashes, split_tokens

REPLICAS = 8
ORACLE = "oracle"
#: Another one, that keeps the balance which the gateway is asked for.
BALANCED_ORACLE = "oracle that keeps balance"
IMBALANCE_MAX = 1.3
_RUNS_MIN = 3
ENGINE = ("--served-model-name", "chat", "--max-model-len", "32768", "--max-num-seqs", "64",
           "--kv-capacity-tokens", "60000", "--block-tokens", "16", "--prefill-tokens-per-s", "12000",
           "--max-num-batched-tokens", "512", "--decode-step-s", "0.006")  # fmt: skip
_WAIT_S = 60.0


@dataclass
class Replay:
    """What came back. ``asked``: bodies in the order in which they were sent."""

    asked: list[bytes] = field(default_factory=list)
    ttft_s: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    failed: int = 0


async def _ask(made: Candidate, body: bytes, replay: Replay) -> str:
    """One request on a connection of its own; the answer's text."""
    replay.asked.append(body)
    began_s = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", made.port, limit=1 << 20)
    try:
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            f"authorization: Bearer {made.key}\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        text, first_s, usage = "", None, None
        while line := await reader.readline():
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            for choice in event.get("choices", ()):
                piece = choice["delta"].get("content")
                if piece and first_s is None:
                    first_s = time.perf_counter()
                text += piece or ""
            usage = event.get("usage") or usage
    finally:
        writer.close()
    if first_s is None or usage is None:
        replay.failed += 1
        return text
    replay.ttft_s.append(first_s - began_s)
    replay.prompt_tokens += usage["prompt_tokens"]
    replay.cached_tokens += (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return text


async def _talk(made: Candidate, conversation: Conversation, began_s: float, replay: Replay) -> None:
    await asyncio.sleep(max(0.0, began_s + conversation.begins_s - time.perf_counter()))
    asking = bodies(conversation)
    with contextlib.suppress(StopIteration):
        turn, body = next(asking)
        while True:
            await asyncio.sleep(turn.after_s)
            try:
                text = await asyncio.wait_for(_ask(made, body, replay), _WAIT_S)
            except (OSError, TimeoutError, ValueError):
                replay.failed += 1
                return
            turn, body = asking.send(text)  # type: ignore[attr-defined]


async def _replay(made: Candidate, asked: Sequence[Conversation]) -> Replay:
    replay = Replay()
    began_s = time.perf_counter() + 0.1
    await asyncio.gather(*(_talk(made, each, began_s, replay) for each in asked))
    return replay


def _work(port: int) -> float:
    """Tokens that a replica has computed: those of prompts that its cache did not spare, and those made."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/metrics", headers={"authorization": f"Bearer {ENGINE_KEY}"})
    told_lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    values: dict[str, float] = {}
    for line in told_lines:
        name, _, value = line.rpartition(" ")
        values[name.partition("{")[0]] = float(value) if not line.startswith("#") else 0.0
    spared = values["vllm:prompt_tokens_cached_total"]
    return values["vllm:prompt_tokens_total"] - spared + values["vllm:generation_tokens_total"]


def _measure(name: str, asked: Sequence[Conversation], plan: Plan) -> tuple[Figures, Replay]:
    """Fresh replicas, a fresh candidate, all requests."""
    command = [sys.executable, "-m", "workloadplane.engines.simulator", *ENGINE]
    with contextlib.ExitStack() as stack:
        engines = [
            stack.enter_context(running(spawn(command, plan.cores.others, stdout=subprocess.PIPE)))
            for _ in range(REPLICAS)
        ]
        ports: list[int] = []
        for engine in engines:
            assert engine.stdout is not None
            port = told(engine.stdout.fileno(), lambda line: line.get("event") == "ready")["port"]
            assert isinstance(port, int)
            ports.append(port)
        made = stack.enter_context(candidate(name, ports, plan.cores.gateway))
        replay = asyncio.run(_replay(made, asked))
        work = [_work(port) for port in ports]
    ttft_s = sorted(replay.ttft_s)
    return {
        "cached_share": replay.cached_tokens / max(1, replay.prompt_tokens),
        "ttft_p50_ms": ttft_s[len(ttft_s) // 2] * 1000,
        "ttft_p90_ms": ttft_s[int(len(ttft_s) * 0.9)] * 1000,
        "imbalance": max(work) * REPLICAS / sum(work),
        "requests": float(len(replay.asked)),
        "failed": float(replay.failed),
    }, replay


@dataclass(frozen=True)
class Served:
    """A request as an engine sees it. ``hashes``: of the full blocks of prompt and answer."""

    prompt_tokens: int
    output_tokens: int
    hashes: Sequence[int]


def as_served(body: bytes) -> Served:
    """What the simulated engine makes of a body."""
    settings = parse_settings(ENGINE)
    generation = read_chat(decode(body, ChatRequest), settings)
    prompt = split_tokens(generation.prompts[0])
    said = answer(generation.prompts[0], generation.samplings[0]).tokens
    hashes = block_hashes([*prompt, *said], block_tokens=settings.model.block_tokens)
    return Served(len(prompt), len(said), hashes)


def oracle_share(asked: Iterable[Served], *, imbalance_max: float | None = None) -> float:
    """The cached share of one that sees all caches and goes where most of the prompt lies, else to the emptiest.

    Nothing takes time for it: what it has sent is cached at once. With ``imbalance_max`` it goes nowhere that has
    computed, or by this request would have computed, more than so many times the mean.
    """
    model = parse_settings(ENGINE).model
    block_tokens = model.block_tokens
    caches = [KvCache(capacity_blocks=model.kv_capacity_tokens // block_tokens) for _ in range(REPLICAS)]
    computed = [0] * REPLICAS
    prompt_tokens = cached_tokens = 0
    for each in asked:
        hashes, tokens = each.hashes, each.prompt_tokens + each.output_tokens
        within = hashes[: (each.prompt_tokens - 1) // block_tokens]  # the last token is always computed
        matching = [cache.matching_blocks(within) for cache in caches]
        places = list(range(REPLICAS))
        if imbalance_max is not None:
            anew = [tokens - found * block_tokens for found in matching]
            total = sum(computed)
            fair = [
                p for p in places if (computed[p] + anew[p]) * REPLICAS <= imbalance_max * (total + anew[p])
            ]
            places = fair or [min(places, key=lambda place: computed[place] + anew[place])]
        best = max(places, key=lambda place: (matching[place], -computed[place]))
        found, cache = matching[best], caches[best]
        cache.take(hashes[:found], len(hashes) - found)
        for block in hashes[found:]:
            cache.publish(block)
        cache.release(hashes, 0)
        prompt_tokens += each.prompt_tokens
        cached_tokens += found * block_tokens
        computed[best] += tokens - found * block_tokens
    return cached_tokens / prompt_tokens


def _row(name: str, title: str, asked: Sequence[Conversation], plan: Plan, runs: int = _RUNS_MIN) -> Row:
    """``runs`` rounds, all candidates in turn in each; figures are medians."""
    columns = ("cached_share", "of_oracle", "of_balanced", "ttft_p50_ms", "ttft_p90_ms", "imbalance")
    row = Row(name, title, columns)
    names = [MERIDIAN, *(CACHE_AWARE if plan.with_peers else ())]
    rounds: dict[str, list[Figures]] = {each: [] for each in names}
    best: dict[str, float] = {}
    for _ in range(runs):
        for each in list(names):
            try:
                figures, replay = _measure(each, asked, plan)
            except (OSError, RuntimeError, IndexError, subprocess.SubprocessError) as error:
                row.faults.append(f"{each}: {error}")
                names.remove(each)
                continue
            if figures["failed"]:
                row.faults.append(f"{each}: {figures['failed']:.0f} of {figures['requests']:.0f} failed")
            if not best:  # the bodies, and nearly their order, are the same for all
                served = list(map(as_served, replay.asked))
                best[ORACLE] = oracle_share(served)
                best[BALANCED_ORACLE] = oracle_share(served, imbalance_max=IMBALANCE_MAX)
            rounds[each].append(figures)
    shares = {"of_oracle": best.get(ORACLE, 1.0), "of_balanced": best.get(BALANCED_ORACLE, 1.0)}
    for each, measured in rounds.items():
        if measured:
            figures = {key: statistics.median(one[key] for one in measured) for key in measured[0]}
            row.figures[each] = figures | {
                key: figures["cached_share"] / max(share, 1e-9) for key, share in shares.items()
            }
    for each, share in best.items():
        row.figures[each] = {"cached_share": share, "of_oracle": share / max(best[ORACLE], 1e-9)}
    own = row.figures.get(MERIDIAN)
    if own is None:
        return row
    row.goals.append(Goal("cached share ≥ 95 % of the oracle's", own["of_oracle"], 0.95, at_least=True))
    row.goals.append(Goal("load max/mean ≤ 1.3", own["imbalance"], IMBALANCE_MAX))
    peers = [row.figures[each]["ttft_p90_ms"] for each in CACHE_AWARE if each in row.figures]
    if peers:
        row.goals.append(Goal("TTFT P90 below both peers'", own["ttft_p90_ms"], min(peers)))
    return row


def trace(plan: Plan, path: Path) -> Row:
    """A recorded trace: one round, for it is long; in a quick one its beginning, where little is known yet."""
    asked = of_trace(path, within_s=TRACE_WITHIN_S, limit=800 if plan.runs == 1 else None)
    title = f"routing {len(asked):,} requests of {path.name} over {REPLICAS} replicas"
    return _row("trace", title, asked, plan, runs=1)


def generated(plan: Plan) -> Row:
    """Conversations of our own making."""
    quick = plan.runs == 1
    asked = multi_turn(within_s=15.0 if quick else 24.0, conversations=80 if quick else 160)
    count = sum(len(each.turns) for each in asked)
    title = f"routing {count:,} turns of {len(asked)} conversations over {REPLICAS} replicas"
    return _row("turns", title, asked, plan, runs=1 if quick else _RUNS_MIN)
