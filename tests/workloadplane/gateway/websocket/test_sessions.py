"""WebSocket sessions from outside, on raw sockets: whose they are, where they go, what they carry, how they end."""

import asyncio
import random
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from tests.support.gateway import (
    AUTHORIZED,
    SECRET,
    Received,
    agent_state,
    endpoints,
    gateway,
    json_answer,
    raw,
    rewrite,
    run,
    sends,
    upstream,
)
from tests.support.tables import AgentState, Signer, api_key, endpoint, raw_public_key, revision, route
from tests.support.waiting import eventually_async
from tests.support.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    KEY,
    PING,
    TEXT,
    Engine,
    accept,
    close_code,
    connect,
    frame,
    handshake,
    next_frame,
)
from workloadplane.protocol.local import EndpointSet
from workloadplane.protocol.routing import Peer


async def echo(engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say one word, then gather."""
    writer.write(frame(TEXT, b"hello", masked=False))
    await engine.gather(reader)


def conversation(rng: random.Random, size: int, *, masked: bool) -> bytes:
    """Random whole messages in frames, with pings between."""
    made = bytearray()
    while len(made) < size:
        parts = rng.choice((1, 1, 2, 3))
        for part in range(parts):
            if rng.random() < 0.2:
                made += frame(PING, rng.randbytes(rng.randrange(126)), masked=masked)
            opcode = CONTINUATION if part else rng.choice((TEXT, BINARY))
            payload = rng.randbytes(rng.choice((0, 1, 125, 126, 1000, 65535, 65536, 200_000)))
            made += frame(opcode, payload, masked=masked, final=part == parts - 1)
    return bytes(made)


def test_random_frames_pass_byte_for_byte_both_ways(tmp_path: Path) -> None:
    """Megabytes of frames, written in odd pieces by both ends at once, arrive as they were sent; all is counted."""

    async def scenario() -> None:
        rng = random.Random(4)
        up, down = (conversation(rng, 3_000_000, masked=masked) for masked in (True, False))

        async def dribble(writer: asyncio.StreamWriter, data: bytes) -> None:
            at = 0
            while at < len(data):
                size = rng.choice((1, 2, 3, 7, 1000, 30_000, 65_536))
                writer.write(data[at : at + size])
                await writer.drain()
                at += size

        async def talk(engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.gather(dribble(writer, down), engine.gather(reader))

        engine = Engine(talk)
        async with upstream(engine.script) as server:
            state = agent_state(tmp_path / "agent", server.port)
            async with gateway(tmp_path / "gateway", state) as running:
                head, reader, writer = await connect(running.port, handshake())
                assert head.startswith(b"HTTP/1.1 101 ")
                assert f"sec-websocket-accept: {accept(KEY)}".encode() in head.lower().replace(
                    accept(KEY).lower().encode(), accept(KEY).encode()
                )
                sending = asyncio.create_task(dribble(writer, up))
                assert await reader.readexactly(len(down)) == down
                await sending
                writer.write_eof()
                await engine.ended.wait()
                assert bytes(engine.got) == up
                assert await reader.read() == b""
                (record,) = await running.usage_of(1)
                assert (record.route, record.status, record.outcome) == ("realtime", 101, "client_gone")
                assert record.replica_id == "replica-1"

    run(scenario())


def test_who_may_and_where_it_goes(tmp_path: Path) -> None:
    """The engine gets its own key, the served name and the client's offers, and nothing of the client's secrets."""

    async def scenario() -> None:
        engine = Engine(echo, headers="Sec-WebSocket-Protocol: realtime\r\nSec-WebSocket-Extensions: x\r\n")
        async with upstream(engine.script) as server:
            state = agent_state(tmp_path / "agent", server.port)
            async with gateway(tmp_path / "gateway", state) as running:
                offers = (
                    f"sec-websocket-protocol: realtime, openai-insecure-api-key.{SECRET}, openai-beta.v1\r\n"
                    "sec-websocket-extensions: x\r\ncookie: c=1\r\norigin: http://a\r\nx-meridian-replica: 1\r\n"
                    "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n"
                )
                request = handshake("/v1/realtime?a=b&model=chat", offers, authorized=False)
                head, reader, writer = await connect(running.port, request)
                assert b"sec-websocket-protocol: realtime\r\n" in head
                assert b"sec-websocket-extensions: x\r\n" in head
                assert b"x-meridian-replica: replica-1\r\n" in head
                assert await next_frame(reader) == (TEXT, b"hello")
                got = server.received[0]
                assert got.line == "GET /v1/realtime?model=chat&a=b HTTP/1.1"
                assert got.headers["authorization"] == "Bearer engine-secret"
                assert got.headers["sec-websocket-protocol"] == "realtime, openai-beta.v1"
                assert got.headers["sec-websocket-extensions"] == "x"
                assert got.headers["traceparent"] == "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
                assert SECRET not in str(got)
                assert not {"cookie", "origin", "x-meridian-replica"} & set(got.headers)
                for path in ("/v1/realtime/chat", "/v1/realtime/chat?a=b"):
                    head, _, other = await connect(running.port, handshake(path, offers))
                    assert head.startswith(b"HTTP/1.1 101 ")
                    assert server.received[-1].line.startswith("GET /v1/realtime?model=chat")
                    other.close()
                writer.close()

    run(scenario())


def test_an_adapter_is_named_as_elsewhere(tmp_path: Path) -> None:
    """``<deployment>:<adapter>`` goes to a replica, which is told which of its adapters to use."""

    async def scenario() -> None:
        engine = Engine(echo)
        async with upstream(engine.script) as server:
            routes = [route(revisions=(revision(("c-eu",)),), adapters=("fr",))]
            state = agent_state(tmp_path / "agent", server.port, routes=routes)
            async with gateway(tmp_path / "gateway", state) as running:
                replica = endpoint(server.port, adapters=("fr",))
                endpoint_set = EndpointSet(endpoint_generation=2, endpoints=(replica,))
                running.process._context.registry.adopt_endpoints(endpoint_set)
                head, _, writer = await connect(running.port, handshake("/v1/realtime?model=chat:fr"))
                assert head.startswith(b"HTTP/1.1 101 ")
                assert server.received[0].line == "GET /v1/realtime?model=chat%3Afr HTTP/1.1"
                writer.close()

    run(scenario())


REFUSED = [
    (handshake(authorized=False), 401, "invalid_api_key"),
    (
        handshake(headers="sec-websocket-protocol: openai-insecure-api-key.wrong\r\n", authorized=False),
        401,
        "",
    ),
    (handshake("/v1/realtime?model=absent"), 404, "model_not_found"),
    (handshake("/v1/realtime?model=chat&model=other"), 400, ""),
    (handshake("/v1/realtime?model="), 400, ""),
    (handshake(key="short"), 400, ""),
    (handshake().replace(b"version: 13", b"version: 8"), 426, "websocket_version"),
    (handshake().replace(b"upgrade: websocket", b"upgrade: h2c"), 400, "invalid_http"),
    (handshake().replace(b"upgrade: websocket", b"upgrade: websocket, h2c"), 400, "invalid_http"),
    (handshake().replace(b"connection: Upgrade", b"connection: close"), 400, "invalid_http"),
    (handshake("/v1/chat/completions?model=chat"), 400, "invalid_http"),
    (handshake("/v1/realtime/chat/more"), 400, "invalid_http"),
    (handshake("/v1/realtimes"), 400, "invalid_http"),
    (handshake("/livez"), 400, "invalid_http"),
    (handshake().replace(b"GET", b"POST"), 400, "invalid_http"),
    (handshake(headers="content-length: 3\r\n") + b"abc", 400, "invalid_http"),
    (handshake(headers="transfer-encoding: chunked\r\n") + b"0\r\n\r\n", 400, "invalid_http"),
    (handshake().replace(b"HTTP/1.1", b"HTTP/1.0"), 400, "invalid_http"),
    (
        b"GET /v1/realtime?model=chat HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        426,
        "upgrade_required",
    ),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_what_is_no_sound_handshake_is_refused(tmp_path: Path, number: int) -> None:
    """An upgrade is offered at its own paths to who may, and refused everywhere else in plain HTTP."""
    request, status, code = REFUSED[number]

    async def scenario() -> None:
        engine = Engine(echo)
        async with upstream(engine.script) as server:
            state = agent_state(tmp_path / "agent", server.port)
            async with gateway(tmp_path / "gateway", state) as running:
                answer = await raw(running.port, request + b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n")
                assert answer.startswith(b"HTTP/1.1 %d " % status), answer
                assert answer.count(b"HTTP/1.1 ") == 1, "nothing after it is taken for a request"
                assert code.encode() in answer
                assert server.received == []

    run(scenario())


def test_the_first_message_may_name_the_model(tmp_path: Path) -> None:
    """Without a model the session begins at once and finds its replica by the first message, which goes on whole."""

    async def scenario() -> None:
        engine = Engine(echo)
        async with upstream(engine.script) as server:
            state = agent_state(tmp_path / "agent", server.port)
            async with gateway(tmp_path / "gateway", state, header_timeout_s=0.2) as running:
                offers = (
                    "sec-websocket-extensions: permessage-deflate\r\nsec-websocket-protocol: realtime\r\n"
                )
                for first in (
                    b'{"type":"session.update","model":"chat"}',
                    b'{"type":"session.update","session":{"model":"chat","voice":1}}',
                    b'{"type":"response.create","response":{"model":"chat"}}',
                ):
                    engine.got.clear()
                    head, reader, writer = await connect(running.port, handshake("/v1/realtime", offers))
                    assert b"sec-websocket-extensions" not in head, "nobody can agree to it yet"
                    assert b"sec-websocket-protocol: realtime\r\n" in head
                    sent = (
                        frame(PING, b"p", masked=True)
                        + frame(TEXT, first[:9], masked=True, final=False)
                        + frame(CONTINUATION, first[9:], masked=True)
                        + frame(TEXT, b"more", masked=True)
                    )
                    for byte in sent:
                        writer.write(bytes([byte]))
                        await writer.drain()
                    assert await next_frame(reader) == (TEXT, b"hello")
                    await eventually_async(lambda: bytes(engine.got) == sent, what="all that was sent")  # noqa: B023
                    assert "sec-websocket-extensions" not in server.received[-1].headers
                    writer.close()
                before = len(server.received)
                for first, code in (
                    (frame(TEXT, b'{"model":"absent"}', masked=True), 1008),
                    (frame(TEXT, b'{"type":"x"}', masked=True), 1008),
                    (frame(TEXT, b"no json", masked=True), 1002),
                    (frame(TEXT, b"[" * 5000, masked=True), 1002),
                    (frame(TEXT, b"x" * 70_000, masked=True), 1009),
                    (frame(TEXT, b"x", masked=False), 1002),
                    (b"", 1008),
                ):
                    _, reader, writer = await connect(running.port, handshake("/v1/realtime"))
                    writer.write(first)
                    assert await close_code(reader) == code
                    assert await reader.read() == b""
                    writer.close()
                assert len(server.received) == before

    run(scenario())


def test_half_closes_go_on_as_such(tmp_path: Path) -> None:
    """A client that has said all may still listen; an end that goes without a word is told by a Close."""

    async def scenario() -> None:
        async def late(engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await engine.gather(reader)
            writer.write(frame(TEXT, b"after the end", masked=False))

        async def vanishing(
            engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            writer.write(frame(TEXT, b"word", masked=False))
            await reader.read(1)

        engine, lost = Engine(late), Engine(vanishing)
        async with upstream(engine.script) as server, upstream(lost.script) as other:
            state = agent_state(tmp_path / "agent", server.port)
            async with gateway(tmp_path / "gateway", state) as running:
                _, reader, writer = await connect(running.port, handshake())
                writer.write(frame(TEXT, b"last", masked=True))
                writer.write_eof()
                assert await next_frame(reader) == (TEXT, b"after the end")
                assert await reader.read() == b""
                writer.close()
            rewrite(state, other.port)
            async with gateway(tmp_path / "gateway-2", state) as running:
                _, reader, writer = await connect(running.port, handshake())
                assert await next_frame(reader) == (TEXT, b"word")
                writer.write(frame(TEXT, b"x", masked=True))
                assert await close_code(reader) == 1011
                writer.write(frame(CLOSE, b"", masked=True))
                assert await reader.read() == b""
                (record,) = await running.usage_of(1)
                assert record.outcome == "upstream_error"
                writer.close()

    run(scenario())


def test_a_closing_handshake_passes_and_is_an_orderly_end(tmp_path: Path) -> None:
    """The ends close one another through the tunnel; the record says that it went well."""

    async def scenario() -> None:
        async def talk(engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            engine.got += await reader.read(100)
            writer.write(frame(CLOSE, b"\x03\xe8bye", masked=False))

        engine = Engine(talk)
        async with upstream(engine.script) as server:
            state = agent_state(tmp_path / "agent", server.port)
            async with gateway(tmp_path / "gateway", state) as running:
                _, reader, writer = await connect(running.port, handshake())
                closing = frame(CLOSE, b"\x03\xe8bye", masked=True)
                writer.write(closing)
                assert await next_frame(reader) == (CLOSE, b"\x03\xe8bye")
                assert await reader.read() == b""
                writer.close()
                assert engine.got == closing
                (record,) = await running.usage_of(1)
                assert record.outcome == "ok"
                assert running.process._context.registry.in_flight == {}

    run(scenario())


@pytest.mark.parametrize(
    ("wrong", "code"),
    [(frame(0x3, b"", masked=True), 1002), (frame(TEXT, b"x" * 2000, masked=True), 1009)],
    ids=["unknown", "too long"],
)
def test_wrong_frames_end_the_session_and_say_why(tmp_path: Path, wrong: bytes, code: int) -> None:
    """What came before a wrong frame arrives, nothing of it does, and both ends get the Close frame."""

    async def scenario() -> None:
        engine = Engine(echo)
        async with upstream(engine.script) as server:
            state = agent_state(tmp_path / "agent", server.port)
            async with gateway(tmp_path / "gateway", state, websocket_message_bytes_max=1000) as running:
                _, reader, writer = await connect(running.port, handshake())
                assert await next_frame(reader) == (TEXT, b"hello")
                good = frame(TEXT, b"good", masked=True)
                writer.write(good + wrong)
                assert await close_code(reader) == code
                assert await reader.read() == b""
                await engine.ended.wait()
                assert engine.got.startswith(good)
                assert engine.got[len(good)] == 0x88
                assert int.from_bytes(engine.got[len(good) + 6 : len(good) + 8], "big") == code
                (record,) = await running.usage_of(1)
                assert record.outcome == "refused"
                writer.close()

    run(scenario())


def test_limits_in_time_and_number(tmp_path: Path) -> None:
    """Pings alone do not keep a session; there are no more sessions than allowed."""

    async def scenario() -> None:
        engine = Engine(echo)
        async with upstream(engine.script) as server:
            state = agent_state(tmp_path / "agent", server.port)
            async with gateway(
                tmp_path / "gateway", state, websocket_idle_timeout_s=0.4, websockets_max=1
            ) as running:
                _, reader, writer = await connect(running.port, handshake())
                assert await next_frame(reader) == (TEXT, b"hello")
                refused = await raw(running.port, handshake())
                assert refused.startswith(b"HTTP/1.1 503 ")
                writer.write(frame(PING, b"", masked=True))
                assert await close_code(reader) == 1001
                writer.close()
                await eventually_async(lambda: not running.process._context.websockets)
                head, _, writer = await connect(running.port, handshake())
                assert head.startswith(b"HTTP/1.1 101 ")
                writer.close()

    run(scenario())


def test_a_project_leaves_sessions_to_others(tmp_path: Path) -> None:
    """However many one project opens, named or not: it meets its own bound, and another one's sessions open still."""

    async def scenario() -> None:
        engine = Engine(echo)
        async with upstream(engine.script) as server:
            keys = [api_key(SECRET), api_key("sk-other", project_id="project-2", api_key_id="key-2")]
            shares = (revision(("c-eu",)),)
            routes = [route(revisions=shares), route(project_id="project-2", revisions=shares)]
            state = agent_state(tmp_path / "agent", server.port, routes=routes, keys=keys)
            async with gateway(tmp_path / "gateway", state, websockets_per_project_max=2) as running:
                opened = [
                    await connect(running.port, handshake(path))
                    for path in ("/v1/realtime/chat", "/v1/realtime")
                ]
                for path in ("/v1/realtime/chat", "/v1/realtime"):
                    refused = await raw(running.port, handshake(path))
                    assert refused.startswith(b"HTTP/1.1 429 ") and b"retry-after: 1" in refused
                other = handshake(
                    "/v1/realtime", authorized=False, headers="authorization: Bearer sk-other\r\n"
                )
                head, _, writer = await connect(running.port, other)
                assert head.startswith(b"HTTP/1.1 101 ")
                opened[0][2].close()
                await eventually_async(lambda: len(running.process._context.websockets) == 2)
                head, _, again = await connect(running.port, handshake())
                assert head.startswith(b"HTTP/1.1 101 ")
                for each in (opened[1][2], writer, again):
                    each.close()

    run(scenario())


def test_a_session_ends_with_its_key(tmp_path: Path) -> None:
    """Once the key that opened it is revoked it is closed, both ends told, however busy it is."""

    async def scenario() -> None:
        engine = Engine(echo)
        async with upstream(engine.script) as server:
            state = agent_state(tmp_path / "agent", server.port)
            async with gateway(tmp_path / "gateway", state) as running:
                _, reader, writer = await connect(running.port, handshake())
                assert await next_frame(reader) == (TEXT, b"hello")
                other = state.signer.keyset([api_key("another")], audience=state.cluster_id, generation=2)
                assert running.process._context.registry.adopt_table("keyset", other) is None
                assert await close_code(reader) == 1008
                writer.close()
                (record,) = await running.usage_of(1)
                assert record.route == "realtime"
        assert engine.got[:1] == b"\x88", "the engine was told, too"

    run(scenario())


def test_a_slow_reader_slows_the_other_end(tmp_path: Path) -> None:
    """Whoever does not read holds the sender back; the gateway keeps no more than its bounds, either way."""

    async def scenario() -> None:
        filler = frame(BINARY, bytes(65_000), masked=False)
        masked_filler = frame(BINARY, bytes(65_000), masked=True)
        sent = {"down": 0, "up": 0}

        async def flood(writer: asyncio.StreamWriter, data: bytes, way: str) -> None:
            while True:
                writer.write(data)
                await writer.drain()
                sent[way] += len(data)

        async def talk(engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            await flood(writer, filler, "down")

        engine = Engine(talk)
        async with upstream(engine.script) as server:
            state = agent_state(tmp_path / "agent", server.port)
            async with gateway(tmp_path / "gateway", state) as running:
                _, reader, writer = await connect(running.port, handshake())
                reader._transport.pause_reading()  # type: ignore[attr-defined]
                flooding = asyncio.create_task(flood(writer, masked_filler, "up"))
                (session,) = running.process._context.websockets

                async def settled() -> bool:
                    before = dict(sent)
                    await asyncio.sleep(0.3)
                    return sent == before and all(sent.values())

                await eventually_async(settled, what="both senders held back")
                assert session._shaking.engine is not None and session._shaking.engine._transport is not None
                held = session._shaking.engine._transport.get_write_buffer_size()
                held += session._connection._transport.get_write_buffer_size()  # type: ignore[union-attr]
                assert held < 2 * (256 * 1024 + 256 * 1024 + 70_000)
                flooding.cancel()
                writer.transport.abort()

    run(scenario())


def test_another_replica_is_asked_before_the_session_begins(tmp_path: Path) -> None:
    """A replica that is away, declines or answers nonsense costs the client nothing while another one can."""

    async def scenario() -> None:
        engine = Engine(echo)

        async def wrong_key(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            writer.write(
                b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
                b"sec-websocket-accept: abc\r\n\r\n"
            )

        async with AsyncExitStack() as stack:
            good = await stack.enter_async_context(upstream(engine.script))
            busy = await stack.enter_async_context(
                upstream(sends(json_answer(b"{}", "503 Service Unavailable")))
            )
            liar = await stack.enter_async_context(upstream(wrong_key))
            state = agent_state(tmp_path / "agent", busy.port, liar.port, 1, good.port)
            running = await stack.enter_async_context(gateway(tmp_path / "gateway", state))
            for _ in range(4):
                head, reader, writer = await connect(running.port, handshake())
                assert b"x-meridian-replica: replica-4\r\n" in head
                assert await next_frame(reader) == (TEXT, b"hello")
                writer.close()
                await eventually_async(lambda: running.process._context.registry.in_flight == {})
            missing = await stack.enter_async_context(
                upstream(sends(json_answer(b'{"d":1}', "404 Not Found")))
            )
            rewrite(state, missing.port)
            other = await stack.enter_async_context(gateway(tmp_path / "gateway-2", state))
            answer = await raw(other.port, handshake())
            assert answer.startswith(b"HTTP/1.1 404 ")
            assert answer.endswith(b'{"d":1}')
            (record,) = await other.usage_of(1)
            assert (record.status, record.outcome) == (404, "refused")

    run(scenario())


def test_a_session_waits_for_a_replica_to_start(tmp_path: Path) -> None:
    """With no replica ready a handshake waits, and goes to the first one that is."""

    async def scenario() -> None:
        engine = Engine(echo)
        async with upstream(engine.script) as server:
            state = agent_state(tmp_path / "agent")
            async with gateway(tmp_path / "gateway", state) as running:
                connecting = asyncio.create_task(connect(running.port, handshake()))
                context = running.process._context
                await eventually_async(lambda: context.room.waits("project-1-chat"))
                context.registry.adopt_endpoints(endpoints(2, server.port))
                context.turns.soon_for_all()
                head, reader, writer = await connecting
                assert head.startswith(b"HTTP/1.1 101 ")
                assert await next_frame(reader) == (TEXT, b"hello")
                writer.close()

    run(scenario())


def test_a_tunnel_through_another_region(tmp_path: Path) -> None:
    """A peer's gateway carries the session, byte for byte; it is counted once, where the client was met."""

    async def scenario() -> None:
        engine = Engine(echo)
        signer = Signer()
        eu, us = (AgentState(tmp_path / name, name, signer) for name in ("c-eu", "c-us"))

        def peer(state: AgentState, region: str, port: int) -> Peer:
            return Peer(
                cluster_id=state.cluster_id,
                cluster_name=region,
                region=region,
                jurisdiction="eu",
                url=f"http://127.0.0.1:{port}",
                public_key=raw_public_key(state.private_key),
                rtt_ms=10.0,
            )

        async with upstream(engine.script) as server, AsyncExitStack() as stack:
            routes = [route(revisions=(revision(("c-us",)),))]
            rewrite(us, server.port, region="us-east", routes=routes, peers=(peer(eu, "eu-west", 1),))
            there = await stack.enter_async_context(gateway(tmp_path / "gateway-us", us))
            rewrite(eu, region="eu-west", routes=routes, peers=(peer(us, "us-east", there.port),))
            here = await stack.enter_async_context(gateway(tmp_path / "gateway-eu", eu))
            for path, first in (
                ("/v1/realtime?model=chat", b""),
                ("/v1/realtime", frame(TEXT, b'{"model":"chat"}', masked=True)),
            ):
                engine.got.clear()
                protocols = f"sec-websocket-protocol: realtime, openai-insecure-api-key.{SECRET}\r\n"
                head, reader, writer = await connect(here.port, handshake(path, protocols, authorized=False))
                sent = first + frame(BINARY, bytes(100_000), masked=True)
                writer.write(sent)
                assert await next_frame(reader) == (TEXT, b"hello")
                await eventually_async(lambda: bytes(engine.got) == sent, what="all bytes")  # noqa: B023
                if not first:
                    assert b"x-meridian-served-region: us-east\r\n" in head
                writer.close()
            records = await here.usage_of(2)
            assert {(r.served_cluster_id, r.replica_id, r.origin) for r in records} == {
                ("c-us", "replica-1", "eu-west")
            }
            assert there.usage() == []

    run(scenario())


def test_a_drain_closes_sessions_with_1012(tmp_path: Path) -> None:
    """At this process's end a session is closed as a restart: at rest soon, in mid-message when time is over."""

    async def scenario() -> None:
        async def partial(engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(frame(TEXT, b"x" * 100, masked=False, final=False))
            await engine.gather(reader)

        quiet, busy = Engine(echo), Engine(partial)
        async with upstream(quiet.script) as first, upstream(busy.script) as second:
            state = agent_state(tmp_path / "agent", first.port)
            stack = AsyncExitStack()
            async with stack:
                running = await stack.enter_async_context(
                    gateway(tmp_path / "gateway", state, drain_timeout_s=4.0)
                )
                _, reader, writer = await connect(running.port, handshake())
                assert await next_frame(reader) == (TEXT, b"hello")
                running.process._context.registry.adopt_endpoints(endpoints(2, second.port))
                _, other, other_writer = await connect(running.port, handshake())
                opcode, _ = await next_frame(other)
                assert opcode == TEXT
                ending = asyncio.create_task(stack.aclose())
                assert await close_code(reader) == 1012
                writer.write(frame(CLOSE, b"\x03\xf4", masked=True))
                assert await reader.read() == b""
                assert not other.at_eof(), "a message under way is waited for"
                assert await close_code(other) == 1012
                other_writer.close()
                writer.close()
                await ending
            assert quiet.got[0] == busy.got[0] == 0x88, "the engines were told, too"

    run(scenario())


def test_no_secret_is_logged(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A key that came as a subprotocol shows up nowhere."""

    async def scenario() -> None:
        secret = "sk-canary-in-protocol"
        engine = Engine(echo)
        async with upstream(engine.script) as server:
            state = agent_state(tmp_path / "agent", server.port, keys=[api_key(secret)])
            async with gateway(tmp_path / "gateway", state) as running:
                protocols = f"sec-websocket-protocol: realtime, openai-insecure-api-key.{secret}\r\n"
                head, reader, writer = await connect(
                    running.port, handshake(headers=protocols, authorized=False)
                )
                assert secret.encode() not in head
                assert await next_frame(reader) == (TEXT, b"hello")
                writer.close()
                await running.usage_of(1)
                async with httpx.AsyncClient(headers=AUTHORIZED) as client:
                    metrics = (await client.get(running.url + "/metrics")).text
                assert 'outcome="client_gone",priority="normal",route="realtime"' in metrics
                assert secret not in metrics

    run(scenario())
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"sk-canary" not in path.read_bytes()
    told = capfd.readouterr()
    assert '"route":"realtime"' in told.out
    assert "sk-canary" not in told.out + told.err
