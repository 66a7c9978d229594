"""A head that came before is taken for what the parser would make of it, and for nothing else."""

import asyncio
import json
import time
from itertools import pairwise
from pathlib import Path
from typing import cast

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.gateway import (
    AUTHORIZED,
    SECRET,
    Received,
    agent,
    agent_state,
    gateway,
    json_answer,
    post,
    run,
    sends,
    upstream,
)
from tests.support.tables import api_key
from tests.support.waiting import eventually_async
from workloadplane.gateway.limits import Limits
from workloadplane.gateway.pool import UpstreamPool
from workloadplane.gateway.reader import Request, RequestReader
from workloadplane.gateway.remembered import around_length, content_of, is_without_content
from workloadplane.gateway.upstream import ResponseHead, Target, UpstreamConnection
from workloadplane.protocol.local import TablePush

LIMITS = Limits(header_bytes_max=1024, body_bytes_max=64)
HEADS = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nAuthorization: Bearer x\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer y\r\ncontent-length:%d\r\n\r\n",
    b"POST /v1/embeddings?a=b HTTP/1.1\r\nhost: a\r\nx: Content-Length: 3\r\ncontent-length: %d\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: %d\r\n\r\n",
    b"POST / HTTP/1.0\r\nhost: a\r\ncontent-length: %d\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n",
)
bodies = st.binary(max_size=70)
messages = st.tuples(st.sampled_from(HEADS), bodies).map(lambda each: each[0] % len(each[1]) + each[1])


def seen(request: Request) -> tuple[object, ...]:
    headers = {name: value for name, value in request.headers.items() if name != b"content-length"}
    return (request.method, request.path, request.query, headers, request.body, request.keep_alive)


def parsed(message: bytes) -> tuple[object, ...] | None:
    """What a reader without a memory makes of it, if it is one whole sound request."""
    reader = RequestReader(LIMITS)
    reader.feed(message)
    one = len(reader.ready) == 1 and reader.is_idle and reader.request.failure is None
    return seen(reader.ready[0]) if one else None


@given(st.lists(messages, min_size=2, max_size=8), messages, st.integers(0, 300), st.binary(max_size=3))
def test_a_memory_changes_nothing(before: list[bytes], last: bytes, at: int, put: bytes) -> None:
    """Whatever came before on the connection, a read is taken for a whole request only if a parser says the same."""
    reader = RequestReader(LIMITS)
    for message in before:
        known = reader.whole(message)
        if known is not None:
            assert seen(known) == parsed(message)
            continue
        reader.feed(message)
        if not reader.ready or reader.request.failure is not None:
            return
        request = reader.ready.pop()
        reader.remember(message, request)
        if not request.keep_alive:
            return
    for message in (before[-1], last, last[:at] + put + last[at + len(put) :], last + put, last[:at]):
        known = reader.whole(message)
        assert known is None or seen(known) == parsed(message)


@given(st.lists(messages, min_size=1, max_size=6), st.lists(st.integers(0, 700), max_size=12))
def test_a_memory_changes_nothing_however_reads_are_cut(sent: list[bytes], cuts: list[int]) -> None:
    """Heads that come alone, their bodies in parts or with the next request: the same requests, or the same end."""
    sent = [each for each in sent for _ in range(3)]
    for number, message in enumerate(sent):
        head_bytes = message.index(b"\r\n\r\n") + 4
        cuts = [*cuts, sum(map(len, sent[:number])), sum(map(len, sent[:number])) + head_bytes]
    assert kept(sent, cuts) == kept(sent, None)


def kept(sent: list[bytes], cuts: list[int] | None) -> tuple[list[tuple[object, ...]], bool]:
    """What a reader takes for requests, and whether it refuses the rest. Without ``cuts``: one that has no memory."""
    data, requests = b"".join(sent), []
    reader = RequestReader(LIMITS)
    places = sorted({0, len(data), *(at % (len(data) + 1) for at in cuts or ())})
    for piece in sent if cuts is None else (data[start:end] for start, end in pairwise(places)):
        if cuts is None:
            reader.feed(piece)
        else:
            one = reader.take(piece)
            reader.ready += [one] if one is not None else []
        requests += [seen(request) for request in reader.ready]
        reader.ready.clear()
        if reader.request.failure is not None:
            return requests, True
    reader.feed(b"")
    return requests, reader.request.failure is not None


def test_a_head_that_comes_alone_is_known_the_third_time() -> None:
    """It waits for its body; a body that comes in parts, or with more behind it, is the parser's."""
    reader = RequestReader(LIMITS)
    held = []
    for size in (3, 4, 12, 64):
        assert reader.take(HEADS[0] % size) is None
        held.append(reader.holds_back)
        request = reader.take(b"b" * size)
        assert request is not None
        assert request.body == b"b" * size
    assert held == [False, False, True, True]
    assert reader.take(HEADS[0] % 2) is None
    assert reader.take(b"b") is None
    assert not reader.holds_back
    assert (reader.take(b"b") or reader.request).body == b"bb"
    assert reader.take(HEADS[0] % 2) is None
    assert reader.take(b"bb" + HEADS[0] % 0) is None
    assert [request.body for request in reader.ready] == [b"bb", b""]


@pytest.mark.parametrize("digits", [b"", b"0", b"03", b"+3", b" 3", b"3 ", b"3\r\nx: 4", b"9" * 19])
def test_a_head_alone_differs_in_the_digits_only(digits: bytes) -> None:
    """As with its body behind it."""
    head = around_length(HEADS[0] % 3)
    assert head is not None
    assert is_without_content(HEADS[0] % 65, head)
    assert not is_without_content((HEADS[0] % 3).replace(b": 3", b": " + digits), head)
    assert not is_without_content(HEADS[0] % 3 + b"b", head)
    assert not is_without_content((HEADS[0] % 3)[:-1], head)


def test_a_known_head_whose_body_never_comes_is_judged_all_the_same(tmp_path: Path) -> None:
    """A key that is good no more is told so before its body has come, and a body that is slow is refused as such."""

    async def scenario() -> None:
        state = agent_state(tmp_path / "agent")
        async with upstream(sends(json_answer(b"{}"))) as engine, agent(state.directory) as plane:
            state = agent_state(tmp_path / "agent", engine.port, signer=state.signer)
            async with gateway(tmp_path / "gateway", state, body_timeout_s=0.5) as running:
                await eventually_async(lambda: bool(plane.writers), what="the agent is there")
                body = b'{"model":"chat","messages":[]}'
                head = post(body, close=False).removesuffix(body)
                connections = [await asyncio.open_connection("127.0.0.1", running.port) for _ in range(2)]
                for _ in range(4):
                    for reader, writer in connections:
                        writer.write(head)
                        await writer.drain()
                        await asyncio.sleep(0)
                        writer.write(body)
                        assert (await reader.readuntil(b"{}")).startswith(b"HTTP/1.1 200 ")
                (slow_reader, slow), (reader, writer) = connections
                slow.write(head)
                assert (await slow_reader.readline()).startswith(b"HTTP/1.1 408 ")
                assert b"body" in await slow_reader.read()
                other = state.signer.keyset([api_key("another")], audience=state.cluster_id, generation=2)
                plane.push(TablePush(kind="keyset", table=other))
                registry = running.process._context.registry
                await eventually_async(lambda: registry.generation("keyset") == 2)
                writer.write(head.replace(b"length: %d" % len(body), b"length: 1000000"))
                assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
                writer.close()
                slow.close()

    run(scenario())


def test_the_third_request_with_a_head_needs_no_parser() -> None:
    """However long its body is; a head that never comes again is not kept."""
    reader = RequestReader(LIMITS)
    kept = []
    for size in (3, 4, 12, 0, 64, 65):
        message = HEADS[0] % size + b"b" * size
        request = reader.whole(message)
        kept.append(request is not None)
        if request is None and size < 65:
            reader.feed(message)
            reader.remember(message, reader.ready.pop())
    assert kept == [False, False, True, True, True, False], "the last one is over the bound"


def test_a_head_of_very_many_headers_is_not_kept() -> None:
    """It takes many times its bytes, as long as its connection lies idle."""
    head = b"POST / HTTP/1.1\r\nhost: a\r\n" + b"".join(b"h%d:\r\n" % each for each in range(40))
    reader = RequestReader(LIMITS)
    for _ in range(4):
        message = head + b"content-length: 1\r\n\r\nb"
        assert reader.whole(message) is None
        reader.feed(message)
        reader.remember(message, reader.ready.pop())


@pytest.mark.parametrize(
    "first",
    [
        b"HTTP/1.1 304 X\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 204 X\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 103 X\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 X\r\ncontent-length: 0\r\n\r\n",
    ],
)
def test_content_that_an_answer_cannot_have_is_none(first: bytes) -> None:
    """Where status says that no content follows, what follows is not passed on, whatever came before."""

    class Sink:
        def on_response(self, head: ResponseHead | None, data: bytes, complete: bool) -> None:
            assert not data

        def on_upstream_lost(self, *, valid_http: bool) -> None:
            lost.append(valid_http)

    class Wire:
        def write(self, data: bytes) -> None: ...

        def abort(self) -> None: ...

        close = abort

        def is_closing(self) -> bool:
            return False

        def get_write_buffer_size(self) -> int:
            return 0

    async def scenario() -> None:
        pool = UpstreamPool(connect_timeout_s=1, idle_timeout_s=10, idle_connections_max=2)
        connection = UpstreamConnection(pool, Target("h", 1))
        connection.connection_made(cast(asyncio.Transport, Wire()))
        content = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
        second = first[: first.index(b"\r\n\r\n") + 4].replace(b": 0", b": %d" % len(content)) + content
        for answer in (first, second):
            connection.send(Sink(), b"", b"")
            connection.data_received(answer)

    lost: list[bool] = []
    run(scenario())


@pytest.mark.parametrize(
    "other",
    [
        b"3\r\n\r\nabcd",
        b"3\r\n\r\nab",
        b"+3\r\n\r\nabc",
        b"0x3\r\n\r\nabc",
        b" 3\r\n\r\nabc",
        b"3 \r\n\r\nabc",
        b"3\n\nabc",
        b"\r\n\r\nabc",
        b"0000000000000000003\r\n\r\nabc",
        b"3\r\nconnection: close\r\n\r\nabc",
    ],
)
def test_only_the_digits_of_the_length_may_differ(other: bytes) -> None:
    """What has more or less content than it says, or says it otherwise, is the parser's to judge."""
    begin = b"HTTP/1.1 200 OK\r\ncontent-type: x\r\ncontent-length: "
    head = around_length(begin + b"3\r\n\r\nabc")
    assert head is not None
    assert content_of(begin + b"2\r\n\r\nde", head) == b"de"
    assert content_of(begin + other, head) is None


def test_requests_and_answers_with_known_heads_are_passed_on(tmp_path: Path) -> None:
    """Each with its own body; and a key that is revoked meanwhile opens nothing, though its head is known."""
    answers = [b'{"choices":[],"usage":{"prompt_tokens":%d}}' % number for number in (1, 22, 333, 4, 55)]

    async def script(received: Received, reader: object, writer: object) -> None:
        number = json.loads(received.body)["messages"][0]["number"]
        writer.write(json_answer(answers[number]))  # type: ignore[attr-defined]

    async def scenario() -> None:
        state = agent_state(tmp_path / "agent")
        async with (
            upstream(script) as engine,
            agent(state.directory) as plane,
            httpx.AsyncClient(headers=AUTHORIZED) as client,
        ):
            state = agent_state(tmp_path / "agent", engine.port, signer=state.signer)
            async with gateway(tmp_path / "gateway", state) as running:
                url = running.url + "/v1/chat/completions"
                for number, answer in enumerate(answers):
                    body = {"model": "chat", "messages": [{"number": number, "content": "x" * 4**number}]}
                    response = await client.post(url, json=body)
                    assert response.content == answer
                    assert json.loads(engine.received[number].body)["messages"] == body["messages"]
                assert engine.connections == 1
                told = [record.input_tokens for record in await running.usage_of(len(answers))]
                assert told == [1, 22, 333, 4, 55]
                other = state.signer.keyset([api_key("another")], audience=state.cluster_id, generation=2)
                plane.push(TablePush(kind="keyset", table=other))
                registry = running.process._context.registry
                await eventually_async(lambda: registry.generation("keyset") == 2)
                assert (await client.post(url, json=body)).status_code == 401

    run(scenario())


def test_a_key_that_has_run_out_opens_nothing_though_its_head_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What head and tables settle is not asked again, but time goes on by itself."""

    async def scenario() -> None:
        state = agent_state(tmp_path / "agent")
        async with upstream(sends(json_answer(b"{}"))) as engine, agent(state.directory) as plane:
            state = agent_state(tmp_path / "agent", engine.port, signer=state.signer)
            async with gateway(tmp_path / "gateway", state) as running:
                await eventually_async(lambda: bool(plane.writers), what="the agent is there")
                ends_at = time.time() + 3600.0
                keys = [api_key(SECRET, expires_at=ends_at)]
                table = state.signer.keyset(keys, audience=state.cluster_id, generation=2)
                plane.push(TablePush(kind="keyset", table=table))
                registry = running.process._context.registry
                await eventually_async(lambda: registry.generation("keyset") == 2)
                body = b'{"model":"chat","messages":[]}'
                head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer %s\r\n"
                head = head % SECRET.encode() + b"content-length: %d\r\n\r\n" % len(body)
                reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
                for _ in range(5):
                    writer.write(head + body)  # head and body in one read
                    assert (await reader.readuntil(b"{}")).startswith(b"HTTP/1.1 200 ")
                monkeypatch.setattr(time, "time", lambda: ends_at + 1.0)
                writer.write(head + body)
                assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
                writer.close()

    run(scenario())
