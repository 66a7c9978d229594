"""Streams of a greedy key that give up their seats, through a gateway, with a simulated engine behind it."""

import asyncio
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from tests.support.gateway import (
    SECRET,
    SSE_HEAD,
    Received,
    Running,
    agent_state,
    chunk,
    gateway,
    run,
    upstream,
)
from tests.support.simulators import simulator
from tests.support.tables import AgentState, api_key, endpoint
from tests.support.waiting import eventually_async
from tests.workloadplane.gateway.resume.test_resumed_streams import events_of, text_of
from workloadplane.gateway.queueing import preemption
from workloadplane.gateway.resume.resumption import Plan, Resumption
from workloadplane.protocol.local import EndpointSet
from workloadplane.protocol.routing import ApiKeyEntry, RateLimits
from workloadplane.protocol.statefile import write_state

BODY = {
    "model": "chat",
    "messages": [{"role": "user", "content": "tell me a long story"}],
    "max_tokens": 200,
    "temperature": 0,
    "ignore_eos": True,
    "stream": True,
    "stream_options": {"include_usage": True},
}
SLOW = ("--decode-step-s", "0.01", "--decode-step-per-sequence-s", "0")
MODEST = "sk-modest"


def one_replica(directory: Path, port: int, seats: int, state: str = "ready") -> AgentState:
    """An agent with one replica that computes so many requests side by side, and two keys."""
    made = agent_state(directory, keys=[api_key(SECRET), api_key(MODEST, api_key_id="key-2")])
    write_state(made.directory / "endpoints.json", msgspec.json.encode(replicas(port, seats, state)))
    return made


def replicas(port: int, seats: int, state: str) -> EndpointSet:
    generation = 1 if state == "ready" else 2
    replica = endpoint(port, max_in_flight=seats, state=state)
    return EndpointSet(endpoint_generation=generation, endpoints=(replica,))


class Asked:
    """A stream as its client sees it."""

    def __init__(self) -> None:
        self.content = b""
        self.request_id = ""
        self.first_s: float | None = None

    async def ask(self, running: Running, secret: str, body: dict[str, Any], **headers: str) -> None:
        began_s = time.monotonic()
        told = {"authorization": f"Bearer {secret}", **headers}
        async with (
            httpx.AsyncClient(timeout=50) as client,
            client.stream("POST", running.url + "/v1/chat/completions", json=body, headers=told) as answer,
        ):
            self.request_id = answer.headers["x-request-id"]
            async for piece in answer.aiter_raw():
                self.content += piece
                if self.first_s is None and text_of(self.content.rpartition(b"\n\n")[0]):
                    self.first_s = time.monotonic() - began_s

    @property
    def has_begun(self) -> bool:
        return self.first_s is not None


def begin(
    running: Running, secret: str, body: dict[str, Any], **headers: str
) -> "tuple[Asked, asyncio.Task[None]]":
    asked = Asked()
    return asked, asyncio.create_task(asked.ask(running, secret, body, **headers))


def preemptions(running: Running) -> int:
    return sum(running.process._context.counters.preemptions.values())


def has_grown(asked: Asked, task: "asyncio.Task[None]", size: int) -> bool:
    """Whether text has come since it was so long, comments aside."""
    return task.done() or (asked.has_begun and len(asked.content) > size + 500)


def test_streams_that_gave_way_are_the_unbroken_ones(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """All seats are a greedy key's; the other key waits for none of them, and the greedy one's answers lose nothing."""

    async def scenario(port: int) -> None:
        state = one_replica(tmp_path / "agent", port, seats=4)
        async with gateway(tmp_path / "gateway", state) as running:
            whole = Asked()
            await whole.ask(running, SECRET, BODY)
            greedy = [begin(running, SECRET, BODY) for _ in range(12)]
            for _ in range(8):
                await eventually_async(lambda: sum(each.has_begun for each, _ in greedy) >= 4)
                modest, task = begin(running, MODEST, {**BODY, "max_tokens": 4})
                await task
                assert modest.has_begun
            await asyncio.gather(*(task for _, task in greedy))
            taken_back = preemptions(running)
            assert 2 <= taken_back <= 8
            for each, _ in greedy:
                assert text_of(each.content) == text_of(whole.content)
                assert each.content.endswith(b"data: [DONE]\n\n")
                events, unbroken = events_of(each.content), events_of(whole.content)
                assert [event["choices"] for event in events] == [event["choices"] for event in unbroken]
                assert len({event["id"] for event in events}) == 1
                assert events[-1]["usage"]["completion_tokens"] == 200
                assert events[-1]["usage"]["prompt_tokens"] == unbroken[-1]["usage"]["prompt_tokens"]
            records = [each for each in await running.usage_of(21) if each.api_key_id != "key-2"]
            assert {(each.outcome, each.output_tokens) for each in records} == {("ok", 200)}
            assert len({each.input_tokens for each in records}) == 1
            gave_way = next(each for each, _ in greedy if b": resumed" in each.content)
            async with httpx.AsyncClient() as client:
                told = (await client.get(f"{running.url}/debug/explain/{gave_way.request_id}")).json()
                metrics = (await client.get(f"{running.url}/metrics")).text
            reasons = [each["reasons"] for each in told["choices"]]
            assert "gave its seat to a request that is before it" in reasons
            assert (
                f'meridian_gateway_preemptions_total{{deployment_id="project-1-chat"}} {taken_back}'
                in metrics
            )
            assert 'outcome="begun"' not in metrics, "nothing broke"
        written = capfdbinary.readouterr().out.splitlines()
        lines = [json.loads(line) for line in written if line.startswith(b"{")]
        assert sum(line.get("preempted", 0) for line in lines) == taken_back
        assert not any(line.get("resumed") for line in lines)
        taken = [line for line in lines if "in a seat taken back" in line["reasons"]]
        assert {line["api_key_id"] for line in taken} == {"key-2"}

    with simulator(*SLOW, "--max-num-seqs", "4", key="engine-secret") as engine:
        run(scenario(engine.port))


def test_a_stream_gives_way_a_few_times_at_most_and_waits_as_long_as_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One seat, and another key that always wants it: the stream waits beyond the hold time, and ends whole."""
    times_max = 3
    monkeypatch.setattr(preemption, "PREEMPTIONS_MAX", times_max)

    async def scenario(port: int) -> None:
        state = one_replica(tmp_path / "agent", port, seats=1)
        async with gateway(
            tmp_path / "gateway", state, hold_timeout_s=0.4, hold_comment_interval_s=0.1
        ) as running:
            whole = Asked()
            long = {**BODY, "max_tokens": 400}
            await whole.ask(running, SECRET, long)
            greedy, task = begin(running, SECRET, long)
            for number in range(1, times_max + 2):
                await eventually_async(partial(has_grown, greedy, task, len(greedy.content)))
                modest = Asked()
                await modest.ask(running, MODEST, {**BODY, "max_tokens": 80})
                assert modest.has_begun == (number <= times_max)
                assert preemptions(running) == min(number, times_max)
            await task
            assert text_of(greedy.content) == text_of(whole.content)
            assert greedy.content.count(b": k\n") >= 2
            assert greedy.content.count(b": resumed\n") == times_max

    with simulator(*SLOW, "--max-num-seqs", "1", key="engine-secret") as engine:
        run(scenario(engine.port))


def test_who_opted_out_keeps_the_seat(tmp_path: Path) -> None:
    """As does whose answer could not be gone on with: the other key waits for a seat to end."""

    async def scenario(port: int) -> None:
        state = one_replica(tmp_path / "agent", port, seats=2)
        async with gateway(tmp_path / "gateway", state) as running:
            out, one = begin(running, SECRET, BODY, **{"x-meridian-resume": "off"})
            form = {"type": "json_object"}
            formed, two = begin(running, SECRET, {**BODY, "response_format": form})
            await eventually_async(lambda: out.has_begun and formed.has_begun)
            modest, three = begin(running, MODEST, {**BODY, "max_tokens": 4})
            await asyncio.gather(one, two, three)
            assert preemptions(running) == 0
            assert modest.has_begun
            assert b": resumed" not in out.content + formed.content

    with simulator(*SLOW, "--max-num-seqs", "2", key="engine-secret") as engine:
        run(scenario(engine.port))


def test_a_higher_class_takes_the_seat_of_a_lower_one(tmp_path: Path) -> None:
    """Between keys, whoever was served more; never between requests of one key."""

    async def scenario(port: int) -> None:
        state = one_replica(tmp_path / "agent", port, seats=1)
        async with gateway(tmp_path / "gateway", state) as running:
            low, one = begin(running, MODEST, BODY, **{"x-meridian-priority": "low"})
            await eventually_async(lambda: low.has_begun)
            own, two = begin(running, MODEST, {**BODY, "max_tokens": 4})
            await eventually_async(lambda: len(running.process._context.room) == 1)
            assert preemptions(running) == 0
            other, three = begin(running, SECRET, {**BODY, "max_tokens": 4})
            await asyncio.gather(one, two, three)
            assert preemptions(running) == 1
            assert own.has_begun
            assert other.has_begun
            assert len(events_of(low.content)) >= 200

    with simulator(*SLOW, "--max-num-seqs", "1", key="engine-secret") as engine:
        run(scenario(engine.port))


def test_a_stream_that_gave_way_is_finished_by_a_replica_that_leaves(tmp_path: Path) -> None:
    """Its revision is drained while it waits: the replica that began it is not given up before it has ended it."""

    async def scenario(port: int) -> None:
        state = one_replica(tmp_path / "agent", port, seats=1)
        async with gateway(tmp_path / "gateway", state) as running:
            whole = Asked()
            await whole.ask(running, SECRET, BODY)
            registry = running.process._context.registry
            greedy, one = begin(running, SECRET, BODY)
            await eventually_async(lambda: greedy.has_begun)
            modest, two = begin(running, MODEST, {**BODY, "max_tokens": 2000})
            await eventually_async(lambda: preemptions(running) == 1 and modest.has_begun)
            assert sum(registry.promised.values()) == 1, "the agent hears that the replica is still wanted"
            assert registry.adopt_endpoints(replicas(port, 1, "draining")) is None
            await one
            assert text_of(greedy.content) == text_of(whole.content)
            assert not registry.promised
            two.cancel()

    with simulator(*SLOW, "--max-num-seqs", "4", key="engine-secret") as engine:
        run(scenario(engine.port))


def told(text: str, *ids: int, **more: object) -> bytes:
    """An event of an engine that numbers its tokens."""
    choice = {"index": 0, "delta": {"content": text}, "text": text, "token_ids": ids, **more}
    event = {"id": "made", "object": "chat.completion.chunk", "choices": [choice]}
    return chunk(b"data: " + json.dumps(event).encode() + b"\n\n")


class HalfACharacter:
    """An engine whose first answer stops in the middle of a character until it is told to go on."""

    def __init__(self) -> None:
        self.goes_on = asyncio.Event()
        self.asked: list[dict[str, Any]] = []

    async def script(
        self, received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.asked.append(json.loads(received.body))
        number = len(self.asked)
        writer.write(SSE_HEAD)
        if number == 1:
            writer.write(told("a", 5, prompt_token_ids=[1, 2]) + told("", 6))
            await self.goes_on.wait()
            writer.write(told("\u00e9", 7))
            await reader.read()  # until it is cut
            return
        writer.write(told("b", 8, finish_reason="stop") + chunk(b"data: [DONE]\n\n") + chunk(b""))


def test_in_the_middle_of_a_character_it_gives_way_a_little_later(tmp_path: Path) -> None:
    """Whose client sees the numbers of half a character can't be given them anew, but the next token ends it."""

    async def scenario() -> None:
        engine = HalfACharacter()
        async with upstream(engine.script) as server:
            state = one_replica(tmp_path / "agent", server.port, seats=1)
            async with gateway(tmp_path / "gateway", state) as running:
                greedy, one = begin(running, SECRET, {**BODY, "return_token_ids": True})
                await eventually_async(lambda: b"[6]" in greedy.content)
                modest, two = begin(running, MODEST, BODY)
                await eventually_async(lambda: len(running.process._context.room) == 1)
                assert preemptions(running) == 0
                engine.goes_on.set()
                await asyncio.gather(one, two)
                assert preemptions(running) == 1
                assert text_of(modest.content) == "b"
                assert text_of(greedy.content) == "a\u00e9b"
                assert engine.asked[-1]["prompt"] == [1, 2, 5, 6, 7]

    run(scenario())


def test_a_fault_in_one_stream_takes_the_seat_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes wrong in planning how a stream goes on costs neither it nor the request that wants a seat."""
    faulty: list[Resumption] = []
    plan = Resumption.plan

    def failing(self: Resumption, revision_id: str, *, broke: bool = True) -> Plan | bytes | str:
        if not faulty:
            faulty.append(self)
            raise RecursionError
        assert self not in faulty, "it is asked once"
        return plan(self, revision_id, broke=broke)

    monkeypatch.setattr(Resumption, "plan", failing)

    async def scenario(port: int) -> None:
        state = one_replica(tmp_path / "agent", port, seats=2)
        async with gateway(tmp_path / "gateway", state) as running:
            greedy = [begin(running, SECRET, BODY) for _ in range(2)]
            await eventually_async(lambda: all(each.has_begun for each, _ in greedy))
            modest, task = begin(running, MODEST, {**BODY, "max_tokens": 4})
            await asyncio.gather(task, *(other for _, other in greedy))
            assert modest.has_begun
            assert sorted(each.content.count(b": resumed\n") for each, _ in greedy) == [0, 1]

    with simulator(*SLOW, "--max-num-seqs", "2", key="engine-secret") as engine:
        run(scenario(engine.port))


def test_a_stream_that_waits_outlasts_its_key_and_its_gateway_s_orders_to_stop(tmp_path: Path) -> None:
    """It counts as running meanwhile: against its key's limit, and for a process that finishes what it has."""

    async def scenario(port: int) -> None:
        state = one_replica(tmp_path / "agent", port, seats=1)
        modest_key = api_key(MODEST, api_key_id="key-2")
        async with gateway(tmp_path / "gateway", state, drain_timeout_s=40.0) as running:
            registry = running.process._context.registry
            limited = api_key(SECRET, limits=RateLimits(concurrent_requests=1))

            async def refusal(generation: int, *keys: ApiKeyEntry) -> int:
                """The status that the greedy key gets for one more request once these are the keys."""
                table = state.signer.keyset(list(keys), audience=state.cluster_id, generation=generation)
                assert registry.adopt_table("keyset", table) is None
                async with httpx.AsyncClient(headers={"authorization": f"Bearer {SECRET}"}) as client:
                    return (await client.post(running.url + "/v1/chat/completions", json={})).status_code

            assert await refusal(2, limited, modest_key) == 400
            greedy, one = begin(running, SECRET, BODY)
            await eventually_async(lambda: greedy.has_begun)
            modest, two = begin(running, MODEST, {**BODY, "max_tokens": 3000})
            await eventually_async(lambda: preemptions(running) == 1 and modest.has_begun)
            async with httpx.AsyncClient(headers={"authorization": f"Bearer {SECRET}"}) as client:
                more = await client.post(running.url + "/v1/chat/completions", json=BODY)
            assert more.status_code == 429
            assert await refusal(3, modest_key) == 401
            running.process._on_succeeded()
            await eventually_async(lambda: running.process._gateway.draining)
            assert not one.done()
            two.cancel()
            await one
            assert events_of(greedy.content)[-1]["usage"]["completion_tokens"] == 200
            assert greedy.content.endswith(b"data: [DONE]\n\n")

    with simulator(*SLOW, "--max-num-seqs", "1", key="engine-secret") as engine:
        run(scenario(engine.port))
