"""200 clients ask while replicas, gateways and the agent are killed at random; then the books are compared.

What counts as what. A request has begun once a gateway took its connection: from then on a client can't know
whether it was worked on, so a connection that breaks because its own gateway was killed is neither lost nor
served, and is counted apart. A client goes to another gateway only if a connection does not come about. All else is
lost unless it is a whole answer, or a stream that began and ended with an error event: replicas live all the time,
so a 502 or 503 is a loss however kindly it says "try again".

Three books must agree for every gateway that lives at the end: what its clients saw, its ``/metrics``, and the
metric windows that it spooled; and for all gateways the usage records with what clients saw.
"""

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from prometheus_client.parser import text_string_to_metric_families

from tests.faults.world import GATEWAYS, REPLICAS, Gateway, World, world
from tests.support.gateway import post
from workloadplane.protocol.spool import SpoolBatch
from workloadplane.protocol.usage import UsageRecord

CLIENTS = 200
#: A gateway that is killed loses no record that is older.
UNWRITTEN_S_MAX = 0.1


@dataclass(slots=True)
class Asked:
    """A request as its client saw it. Times monotonic; ``began_s``: before it connected.

    end: whole | error event | cut | lost
    """

    request_id: str
    gateway: Gateway
    began_s: float
    end: str = "lost"
    ended_s: float = 0.0
    output_tokens: int = 0
    said: bytes = b""

    def unwritten_s(self) -> float | None:
        """How long after its end its gateway was killed, if it was."""
        after = [at_s - self.ended_s for at_s, _ in self.gateway.killed_s if at_s >= self.began_s]
        return min(after) if after else None


@dataclass(frozen=True, slots=True)
class Sums:
    """What one gateway did, in one book. ``output_tokens``: of whole answers and broken ones."""

    served: int
    failed: int
    output_tokens: int


@dataclass
class Outcome:
    """What happened, and what is wrong with it."""

    asked: list[Asked] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    refused_connections: int = 0
    records: int = 0
    unwritten: int = 0
    books_compared: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        ends = Counter(one.end for one in self.asked)
        silent = sum(1 for one in self.asked if one.end == "cut" and not one.said)
        return (
            f"{len(self.asked)} requests: {dict(ends)} ({silent} cut before a byte); "
            f"{self.refused_connections} connections refused and made elsewhere; kills: {dict(self.kills)}; "
            f"{self.records} usage records, {self.unwritten} lost with their gateways; "
            f"{self.books_compared} gateways' books compared"
        )


async def chaos(
    directory: Path, *, lasts_s: float, seed: int, unwritten_s_max: float = UNWRITTEN_S_MAX
) -> Outcome:
    """Run it for ``lasts_s`` seconds; the same seed makes the same choices."""
    outcome = Outcome()
    async with world(directory) as made:
        over_s = time.monotonic() + lasts_s
        clients = [
            asyncio.create_task(_client(made, outcome, Random(f"{seed}-{number}"), number, over_s))
            for number in range(CLIENTS)
        ]
        await _kill_at_random(made, outcome, Random(seed), over_s)
        await asyncio.gather(*clients)
        told = [await gateway.metrics() for gateway in made.gateways]
        written = await made.written()
        _compare_records(written.usage, outcome, unwritten_s_max)
        for gateway, metrics in zip(made.gateways, told, strict=True):
            _compare_sums(gateway, metrics, written, outcome)
    return outcome


# Killing


async def _kill_at_random(made: World, outcome: Outcome, rng: Random, over_s: float) -> None:
    """Four replicas, two gateways always live: who kills all of them learns nothing."""
    coming_back: dict[str, asyncio.Task[None]] = {}
    while time.monotonic() < over_s:
        await asyncio.sleep(rng.uniform(0.3, 1.5))
        what = rng.choices(["replica", "gateway", "agent"], [5, 3, 2])[0]
        name = rng.choice(sorted(made.replicas))
        place, away_s = rng.randrange(GATEWAYS), rng.uniform(0.5, 3.0)
        if what in coming_back and not coming_back[what].done():
            continue
        if what == "replica" and len(made.replicas) == REPLICAS:
            coming_back[what] = asyncio.create_task(made.kill_replica(name))
        elif what == "gateway":
            coming_back[what] = asyncio.create_task(made.kill_gateway(made.gateways[place]))
        elif what == "agent":
            coming_back[what] = asyncio.create_task(made.kill_agent(away_s))
        outcome.kills[what] += 1
    await asyncio.gather(*coming_back.values())


# Asking


async def _client(made: World, outcome: Outcome, rng: Random, number: int, over_s: float) -> None:
    count = 0
    while time.monotonic() < over_s:
        await asyncio.sleep(rng.uniform(0.0, 1.0))
        count += 1
        streams = rng.random() < 0.7
        members = {
            "model": "chat",
            "messages": [{"role": "user", "content": f"{number} asks for the {count}. time"}],
            "max_tokens": rng.randint(3, 30),
            "temperature": 0,
            **({"stream": True, "stream_options": {"include_usage": True}} if streams else {}),
        }
        body = json.dumps(members).encode()
        await _ask(made, outcome, f"r-{number}-{count}", body, streams, rng.randrange(GATEWAYS))


async def _ask(
    made: World, outcome: Outcome, request_id: str, body: bytes, streams: bool, first: int
) -> None:
    for place in range(first, first + GATEWAYS):
        gateway = made.gateways[place % GATEWAYS]
        began_s = time.monotonic()
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        except ConnectionError:  # refused, or reset before it stood: nothing was sent
            outcome.refused_connections += 1
            continue
        one = Asked(request_id, gateway, began_s)
        outcome.asked.append(one)
        try:
            writer.write(post(body, headers=f"x-request-id: {request_id}\r\n"))
            async with asyncio.timeout(60):
                while data := await reader.read(65536):
                    one.said += data
        except (ConnectionError, TimeoutError):
            pass
        finally:
            writer.close()
        one.ended_s = time.monotonic()
        _judge(one, streams)
        return
    outcome.wrong.append(f"{request_id}: every gateway refused the connection")


def _judge(one: Asked, streams: bool) -> None:
    head, _, rest = one.said.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head.lower():
        sound, rest = unchunked(rest)
    else:
        length = next((n for n in head.lower().split(b"\r\n") if n.startswith(b"content-length:")), b":-1")
        sound = len(rest) == int(length.partition(b":")[2])
    if head.startswith(b"HTTP/1.1 200") and sound:
        if streams and b"event: error\n" in rest and b"data: [DONE]" not in rest:
            one.end = "error event"
        elif not streams or rest.endswith(b"data: [DONE]\n\n"):
            one.end = "whole"
            one.output_tokens = _tokens(rest, streams)
    elif not sound and any(
        one.began_s <= dead_s and at_s <= one.ended_s for at_s, dead_s in one.gateway.killed_s
    ):
        # Also one that connected while the process was dying: its socket goes last.
        one.end = "cut"


def unchunked(data: bytes) -> tuple[bool, bytes]:
    """Whether the body came to its end, and what of it came."""
    whole = bytearray()
    while True:
        size, found, data = data.partition(b"\r\n")
        if not found:
            return False, bytes(whole)
        length = int(size, 16)
        whole += data[:length]
        if length == 0 or len(data) < length + 2:
            return length == 0 and data == b"\r\n", bytes(whole)
        data = data[length + 2 :]


def _tokens(body: bytes, streams: bool) -> int:
    if not streams:
        return int(json.loads(body)["usage"]["completion_tokens"])
    told = [json.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: {")]
    return int(next(event["usage"]["completion_tokens"] for event in told if event.get("usage")))


# Comparing


def _compare_records(records: tuple[UsageRecord, ...], outcome: Outcome, unwritten_s_max: float) -> None:
    """The clients' book against the gateways' records, request by request."""
    outcome.records = len(records)
    written = {record.request_id: record for record in records}
    if len(written) != len(records):
        twice = [name for name, times in Counter(r.request_id for r in records).items() if times > 1]
        outcome.wrong.append(f"written down twice: {twice[:5]}")
    for one in outcome.asked:
        record = written.pop(one.request_id, None)
        if one.end == "lost":
            outcome.wrong.append(f"{one.request_id} is lost: {one.said[-400:]!r}, written down as {record}")
        elif one.end == "cut":
            continue  # its gateway may have come to its end and written that down, or not
        elif record is None:
            outcome.unwritten += 1
            unwritten_s = one.unwritten_s()
            if unwritten_s is None or unwritten_s > unwritten_s_max:
                outcome.wrong.append(f"{one.request_id} is not written down; killed after {unwritten_s} s")
        elif one.end == "whole" and (record.outcome, record.output_tokens) != ("ok", one.output_tokens):
            outcome.wrong.append(f"{one.request_id}: {one.output_tokens} tokens told, not {record}")
        elif one.end == "error event" and record.outcome != "upstream_error":
            outcome.wrong.append(f"{one.request_id} broke off, which is not written down: {record}")
    if written:
        outcome.wrong.append(f"written down, and nobody asked: {sorted(written)[:5]}")


def _compare_sums(gateway: Gateway, metrics: str, written: SpoolBatch, outcome: Outcome) -> None:
    """A living gateway's three books, all from the same moment on: its last start."""
    started_s = gateway.killed_s[-1][1] if gateway.killed_s else 0.0
    asked = [one for one in outcome.asked if one.gateway is gateway and one.began_s >= started_s]
    names = {one.request_id for one in asked}
    records = [record for record in written.usage if record.request_id in names]
    instances = {record.gateway_instance for record in records}
    if len(instances) > 1:
        outcome.wrong.append(f"{gateway.directory.name} wrote as {sorted(instances)} since it was started")
    broken = {one.request_id for one in asked if one.end == "error event"}
    seen = Sums(
        served=sum(one.end == "whole" for one in asked),
        failed=len(broken),
        output_tokens=sum(one.output_tokens for one in asked)
        + sum(record.output_tokens for record in records if record.request_id in broken),
    )
    windows = [window for window in written.windows if window.gateway_instance in instances]
    spooled = Sums(
        served=sum(window.requests - window.errors for window in windows),
        failed=sum(window.errors for window in windows),
        output_tokens=sum(window.output_tokens for window in windows),
    )
    outcome.books_compared += 1
    if not seen == _told(metrics) == spooled:
        outcome.wrong.append(
            f"{gateway.directory.name}: its clients saw {seen}, /metrics says {_told(metrics)}, its windows {spooled}"
        )


def _told(metrics: str) -> Sums:
    samples = [
        each
        for family in text_string_to_metric_families(metrics)
        if family.name in ("meridian_gateway_requests", "gen_ai_server_tokens")
        for each in family.samples
    ]
    ended: Counter[str] = Counter()
    output_tokens = 0
    for each in samples:
        if each.name == "meridian_gateway_requests_total":
            ended[each.labels["outcome"]] += int(each.value)
        elif each.labels["type"] == "output":
            output_tokens += int(each.value)
    return Sums(ended["ok"], ended.total() - ended["ok"], output_tokens)
