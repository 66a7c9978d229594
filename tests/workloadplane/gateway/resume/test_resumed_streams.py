"""Streams that break at any token and go on elsewhere, through a gateway, with simulated engines behind it."""

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from tests.support.cutting_proxy import Cuts, cutting_proxy
from tests.support.gateway import (
    AUTHORIZED,
    SSE_HEAD,
    Received,
    Running,
    Script,
    agent_state,
    chunk,
    gateway,
    json_answer,
    run,
    sends,
    upstream,
)
from tests.support.simulators import simulator
from tests.support.tables import endpoint, revision, route
from tests.support.waiting import eventually_async
from workloadplane.gateway import recovering
from workloadplane.gateway.registry import Registry
from workloadplane.gateway.resume.resumption import Resumption
from workloadplane.protocol.local import EndpointSet
from workloadplane.protocol.statefile import write_state

CHAT = {
    "model": "chat",
    "messages": [{"role": "user", "content": "tell me a long story"}],
    "max_tokens": 40,
    "temperature": 0,
    "ignore_eos": True,
    "stream": True,
}
COMPLETION = {**{k: v for k, v in CHAT.items() if k != "messages"}, "prompt": "once upon a time"}
FAST = ("--decode-step-s", "0.0005", "--decode-step-per-sequence-s", "0")
PATHS = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}
BODIES: dict[str, dict[str, Any]] = {"chat": CHAT, "completions": COMPLETION}


async def ask(running: Running, kind: str, body: dict[str, Any], **headers: str) -> bytes:
    async with httpx.AsyncClient(timeout=25) as client:
        answer = await client.post(running.url + PATHS[kind], json=body, headers={**AUTHORIZED, **headers})
    assert answer.status_code == 200, answer.text
    return answer.content


def events_of(stream: bytes) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in stream.split(b"\n") if line.startswith(b"data: {")]


def text_of(stream: bytes) -> str:
    choices = [choice for event in events_of(stream) for choice in event["choices"]]
    return "".join(c.get("text") or (c.get("delta") or {}).get("content") or "" for c in choices)


@pytest.mark.parametrize("kind", ["chat", "completions"])
def test_a_stream_cut_anywhere_is_the_unbroken_one(tmp_path: Path, kind: str) -> None:
    """Cut after any event, once or twice, in the middle of an event too: same text, ids, events and usage."""

    async def scenario(port: int) -> None:
        cuts = Cuts()
        body = {**BODIES[kind], "stream_options": {"include_usage": True}}
        async with cutting_proxy(port, cuts) as one, cutting_proxy(port, cuts) as two:
            state = agent_state(tmp_path / "agent", one, two)
            async with gateway(tmp_path / "gateway", state, ejection_s=0.01) as running:
                whole = await ask(running, kind, body)
                assert b'token_ids":[' not in whole
                rng = random.Random(4)
                places: list[list[int | None]] = [[at] for at in range(1, 43)]
                places += [[rng.randrange(1, 20), rng.randrange(1, 10)] for _ in range(5)]
                for number, place in enumerate(places):
                    cuts.after_events, cuts.half, cuts.done = list(place), 5 * (number % 3), 0
                    joined = await ask(running, kind, body)
                    assert cuts.done == len(place), place
                    assert text_of(joined) == text_of(whole), place
                    assert joined.endswith(b"data: [DONE]\n\n")
                    events = events_of(joined)
                    assert len({event["id"] for event in events}) == 1
                    assert len(events) == len(events_of(whole))
                    for mine, unbroken in zip(events, events_of(whole), strict=True):
                        assert mine["choices"] == unbroken["choices"], place
                        usage, wanted = mine.get("usage"), unbroken.get("usage")
                        assert (usage is None) == (wanted is None)
                        if usage and wanted:
                            counts = ("prompt_tokens", "completion_tokens", "total_tokens")
                            assert [usage[n] for n in counts] == [wanted[n] for n in counts], place
                    lost_end = place[0] is not None and place[0] >= len(events) - 1
                    assert joined.count(b": resumed\n") == (0 if lost_end else len(place)), place
                records = await running.usage_of(len(places) + 1)
                assert {(r.outcome, r.input_tokens, r.output_tokens) for r in records} == {
                    ("ok", records[0].input_tokens, 40)
                }

    with simulator(*FAST, key="engine-secret") as engine:
        run(scenario(engine.port))


def test_a_client_that_asked_for_numbers_sees_all_of_them(tmp_path: Path) -> None:
    """``return_token_ids`` of the client's own works across a break."""

    async def scenario(port: int) -> None:
        cuts = Cuts()
        body = {**CHAT, "return_token_ids": True}
        async with cutting_proxy(port, cuts) as one, cutting_proxy(port, cuts) as two:
            state = agent_state(tmp_path / "agent", one, two)
            async with gateway(tmp_path / "gateway", state, ejection_s=0.01) as running:
                whole = await ask(running, "chat", body)
                cuts.after_events = [10]
                joined = await ask(running, "chat", body)
                assert cuts.done == 1
                ids = [
                    [c.get("token_ids") for e in events_of(s) for c in e["choices"]] for s in (joined, whole)
                ]
                assert ids[0] == ids[1]
                assert sum(bool(one) for one in ids[0]) == 40

    with simulator(*FAST, key="engine-secret") as engine:
        run(scenario(engine.port))


def _numberless(*texts: str) -> bytes:
    facts = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "chat"}
    return b"".join(
        chunk(
            b"data: "
            + json.dumps({**facts, "choices": [{"index": 0, "delta": {"content": t}}]}).encode()
            + b"\n\n"
        )
        for t in texts
    )


def test_an_engine_without_numbers_goes_on_by_text(tmp_path: Path) -> None:
    """The second engine is given the open message and says the rest."""

    async def scenario() -> None:
        async def dies(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            if b"continue_final_message" in received.body:
                writer.write(SSE_HEAD + _numberless(" world") + chunk(b"data: [DONE]\n\n") + chunk(b""))
                return
            writer.write(SSE_HEAD + _numberless("Hel", "lo"))
            await writer.drain()
            writer.close()

        async with upstream(dies) as one, upstream(dies) as two:
            state = agent_state(tmp_path / "agent", one.port, two.port)
            async with gateway(tmp_path / "gateway", state) as running:
                joined = await ask(running, "chat", CHAT)
                assert text_of(joined) == "Hello world"
                assert joined.count(b": resumed\n") == 1
                assert b"[DONE]" in joined
                bodies = [json.loads(r.body) for r in one.received + two.received]
                (rest,) = [b for b in bodies if b.get("continue_final_message")]
                assert rest["messages"][-1] == {"role": "assistant", "content": "Hello"}
                assert rest["max_tokens"] == 38

    run(scenario())


@pytest.mark.parametrize("opt_out", ["request", "deployment"])
def test_whoever_opted_out_gets_an_error_event(tmp_path: Path, opt_out: str) -> None:
    """By header or by deployment: no continuation, no false end, and nothing more is asked of the engine."""

    async def scenario() -> None:
        async def dies(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            assert b"return_token_ids" not in received.body
            writer.write(SSE_HEAD + _numberless("a"))
            await writer.drain()
            writer.close()

        async with upstream(dies) as one, upstream(dies) as two:
            routes = [route(revisions=(revision(("c-eu",)),), resume=opt_out != "deployment")]
            state = agent_state(tmp_path / "agent", one.port, two.port, routes=routes)
            async with gateway(tmp_path / "gateway", state) as running:
                headers = {"x-meridian-resume": "off"} if opt_out == "request" else {}
                broken = await ask(running, "chat", CHAT, **headers)
                assert b"event: error" in broken
                assert b"[DONE]" not in broken
                assert len(one.received) + len(two.received) == 1

    run(scenario())


def test_what_cannot_be_resumed_ends_with_an_error_event_that_says_why(tmp_path: Path) -> None:
    """A half tool call is neither invented nor passed over in silence."""

    async def scenario() -> None:
        call = {
            "choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}}]
        }

        async def dies(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            writer.write(SSE_HEAD + chunk(b"data: " + json.dumps(call).encode() + b"\n\n"))
            await writer.drain()
            writer.close()

        async with upstream(dies) as one, upstream(dies) as two:
            state = agent_state(tmp_path / "agent", one.port, two.port)
            async with gateway(tmp_path / "gateway", state) as running:
                broken = await ask(running, "chat", CHAT)
                error = json.loads(broken.split(b"event: error\ndata: ")[1])["error"]
                assert error["code"] == "stream_broken"
                assert "a tool call" in error["message"]
                assert len(one.received) + len(two.received) == 1

    run(scenario())


def _refuses(status: str, times: int) -> tuple[Script, list[bytes]]:
    """An engine that dies in mid-stream, and refuses the rest that often; the rests that it was asked for."""
    asked: list[bytes] = []

    async def script(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"continue_final_message" not in received.body:
            writer.write(SSE_HEAD + _numberless("Hel"))
            await writer.drain()
            writer.close()
            return
        asked.append(received.body)
        if len(asked) <= times:
            writer.write(json_answer(b'{"error":{"message":"busy"}}', status))
        else:
            writer.write(SSE_HEAD + _numberless("lo") + chunk(b"data: [DONE]\n\n") + chunk(b""))

    return script, asked


@pytest.mark.parametrize("status", ["429 Too Many Requests", "502 Bad Gateway", "503 Service Unavailable"])
def test_a_rest_that_is_refused_for_now_waits_for_who_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    """The only other replica is busy: the stream waits as a held request does, and is one answer, counted once."""
    monkeypatch.setattr(recovering, "_AGAIN_S", 0.0)

    async def scenario() -> None:
        script, asked = _refuses(status, 3)
        async with upstream(script) as one, upstream(script) as two:
            state = agent_state(tmp_path / "agent", one.port, two.port)
            async with gateway(tmp_path / "gateway", state) as running:
                joined = await ask(running, "chat", CHAT)
                assert text_of(joined) == "Hello"
                assert joined.count(b": resumed\n") == 1
                assert b"error" not in joined
                assert joined.endswith(b"data: [DONE]\n\n")
                assert len(asked) == 4
                (record,) = await running.usage_of(1)
                assert (record.outcome, record.output_tokens) == ("ok", 2)
                assert not len(running.process._context.room)

    run(scenario())


def test_a_rest_that_nobody_takes_ends_with_an_error_event(tmp_path: Path) -> None:
    """Within the time that a request may be held; it is asked for again and again, but not without a pause."""

    async def scenario() -> None:
        script, asked = _refuses("503 Service Unavailable", 999)
        async with upstream(script) as one, upstream(script) as two:
            state = agent_state(tmp_path / "agent", one.port, two.port)
            async with gateway(tmp_path / "gateway", state, hold_timeout_s=1.5) as running:
                broken = await ask(running, "chat", CHAT)
                assert text_of(broken.split(b"event: error")[0]) == "Hel"
                error = json.loads(broken.split(b"event: error\ndata: ")[1])["error"]
                assert error["code"] == "no_replica_ready"
                assert b"[DONE]" not in broken
                assert b": resumed" not in broken
                assert 1 <= len(asked) <= 6

    run(scenario())


def test_a_rest_that_waits_for_its_revision_keeps_nobody_waiting(tmp_path: Path) -> None:
    """Its revision's only replica is gone: whoever the other revision can serve is served at once."""

    async def scenario() -> None:
        script, asked = _refuses("", 0)
        left: list[Registry] = []

        async def leaves(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            if not asked and left:
                left.pop().adopt_endpoints(EndpointSet(endpoint_generation=3, endpoints=(newer,)))
            await script(received, reader, writer)

        async with upstream(leaves) as old, upstream(sends(json_answer(b'{"choices":[]}'))) as new:
            newer = endpoint(new.port, replica_id="replica-2", revision_id="chat-2")
            revisions = (revision(("c-eu",)), revision(("c-eu",), revision_id="chat-2", number=2, weight=0))
            state = agent_state(tmp_path / "agent", routes=[route(revisions=revisions)])
            known = EndpointSet(endpoint_generation=2, endpoints=(endpoint(old.port), newer))
            write_state(state.directory / "endpoints.json", msgspec.json.encode(known))
            async with gateway(tmp_path / "gateway", state) as running:
                context = running.process._context
                left.append(context.registry)
                rest = asyncio.create_task(ask(running, "chat", CHAT))
                await eventually_async(lambda: len(context.room) == 1, what="the rest waits")
                async with httpx.AsyncClient(timeout=25, headers=AUTHORIZED) as client:
                    for _ in range(3):
                        answer = await client.post(
                            running.url + PATHS["chat"], json={**CHAT, "stream": False}
                        )
                        assert answer.status_code == 200
                assert len(new.received) == 3
                assert not asked
                back = (endpoint(old.port, replica_id="replica-3"), newer)
                context.registry.adopt_endpoints(EndpointSet(endpoint_generation=4, endpoints=back))
                joined = await rest
                assert text_of(joined) == "Hello"
                assert joined.count(b": resumed\n") == 1

    run(scenario())


def test_a_stream_that_ends_without_done_is_not_taken_for_whole(tmp_path: Path) -> None:
    """A proper HTTP end is no proof: without ``[DONE]`` the answer is continued, or ends with an error event."""

    async def scenario() -> None:
        async with upstream(sends(SSE_HEAD, _numberless("a"), chunk(b""))) as one:
            state = agent_state(tmp_path / "agent", one.port)
            async with gateway(tmp_path / "gateway", state) as running:
                broken = await ask(running, "chat", CHAT, **{"x-meridian-resume": "off"})
                assert b"event: error" in broken
                assert b"[DONE]" not in broken

    run(scenario())


def test_an_engine_core_that_dies_and_says_done_is_resumed(tmp_path: Path) -> None:
    """The engine's error event and its ``[DONE]`` are not passed on: another replica finishes the answer."""

    async def scenario() -> None:
        died = b'data: {"error":{"message":"core died","type":"InternalServerError","code":500}}\n\n'

        async def dies(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            end = chunk(b"data: [DONE]\n\n") + chunk(b"")
            if b"continue_final_message" in received.body:
                writer.write(SSE_HEAD + _numberless("lo") + end)
            else:
                writer.write(SSE_HEAD + _numberless("Hel") + chunk(died) + end)

        async with upstream(dies) as one, upstream(dies) as two:
            state = agent_state(tmp_path / "agent", one.port, two.port)
            async with gateway(tmp_path / "gateway", state) as running:
                joined = await ask(running, "chat", CHAT)
                assert text_of(joined) == "Hello"
                assert b"error" not in joined
                assert joined.count(b"[DONE]") == 1

    run(scenario())


@pytest.mark.parametrize("end", ["cut", "handed over"])
def test_a_fault_in_going_on_ends_with_an_error_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """A body that is nested so deeply that it can't be read a second time leaves no client waiting, nor another one."""

    def failing(self: Resumption, revision_id: str, *, broke: bool = True) -> str:
        raise RecursionError

    monkeypatch.setattr(Resumption, "plan", failing)

    async def scenario(port: int) -> None:
        cuts = Cuts(after_events=[5 if end == "cut" else None])
        async with cutting_proxy(port, cuts) as one, cutting_proxy(port, cuts) as two:
            state = agent_state(tmp_path / "agent", one, two)
            async with gateway(tmp_path / "gateway", state) as running:
                asked = asyncio.create_task(ask(running, "chat", CHAT))
                if end == "handed over":
                    context = running.process._context
                    await eventually_async(lambda: bool(context.relays))
                    context.registry.handed_over = frozenset(context.registry.endpoints)
                    running.process._sweep()
                content = await asked
                assert content.count(b"can't be read again") == (end == "cut")
                assert content.endswith(b"data: [DONE]\n\n") == (end != "cut"), (
                    "where nothing broke it goes on"
                )

    with simulator("--decode-step-s", "0.01", key="engine-secret") as engine:
        run(scenario(engine.port))
