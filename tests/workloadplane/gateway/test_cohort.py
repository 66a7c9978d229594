"""While a turn of the loop brings much, it is handled kind by kind, and everybody gets what is theirs all the same."""

import asyncio
import json
from pathlib import Path
from typing import cast

import httpx

from tests.support.gateway import AUTHORIZED, Received, agent_state, gateway, json_answer, run, upstream
from workloadplane.gateway.cohort import Cohort
from workloadplane.gateway.pool import UpstreamPool
from workloadplane.gateway.upstream import ResponseHead, Target, UpstreamConnection

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


def test_each_of_many_at_once_gets_its_own_answer(tmp_path: Path) -> None:
    """Many connections, several requests on each, all of other lengths."""

    async def script(received: Received, reader: object, writer: object) -> None:
        number = json.loads(received.body)["messages"][0]["number"]
        writer.write(json_answer(b'{"id":"%s"}' % (b"x" * number)))  # type: ignore[attr-defined]

    async def scenario() -> None:
        async with upstream(script) as engine, httpx.AsyncClient(headers=AUTHORIZED, timeout=30) as client:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state) as running:
                cohort, seen_busy = running.process._context.cohort, []

                async def ask(number: int) -> None:
                    for more in range(5):
                        body = {"model": "chat", "messages": [{"number": number + more}]}
                        response = await client.post(running.url + "/v1/chat/completions", json=body)
                        assert response.json() == {"id": "x" * (number + more)}
                        seen_busy.append(cohort.is_busy)

                await asyncio.gather(*(ask(number) for number in range(40)))
                assert any(seen_busy)
                assert len(await running.usage_of(200)) == 200

    run(scenario())


def test_answers_come_before_requests_and_a_failure_is_its_own_connections() -> None:
    """What an answer sets free the requests of the same turn may have."""

    class Gathered:
        def __init__(self, name: str) -> None:
            self.name = name

        def on_turn(self) -> None:
            handled.append(self.name)
            if self.name == "bad":
                raise RuntimeError

        def abort(self) -> None:
            handled.append("aborted")

    async def scenario() -> None:
        cohort = Cohort(asyncio.get_running_loop())
        cohort.add_request(Gathered("request"))
        cohort.add_answer(Gathered("bad"))
        cohort.add_answer(Gathered("answer"))
        assert handled == []
        await asyncio.sleep(0)
        assert handled == ["bad", "aborted", "answer", "request"]

    handled: list[str] = []
    run(scenario())


class _Wire:
    """A transport that takes everything."""

    closed = False

    def write(self, data: bytes) -> None: ...

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0


class _Sink:
    def __init__(self) -> None:
        self.heard: list[object] = []

    def on_response(self, head: ResponseHead | None, data: bytes, complete: bool) -> None:
        self.heard.append(data)

    def on_upstream_lost(self, *, valid_http: bool) -> None:
        self.heard.append("lost")


def _asked(pool: UpstreamPool) -> tuple[UpstreamConnection, _Wire, _Sink]:
    """A connection whose engine's head is known and that has been asked once more, in a busy turn."""
    connection, wire = UpstreamConnection(pool, Target("h", 1)), _Wire()
    connection.connection_made(cast(asyncio.Transport, wire))
    connection.send(_Sink(), b"", b"")
    connection.data_received(ANSWER)
    assert pool.take(connection.target) is connection
    pool.cohort.is_busy = True
    sink = _Sink()
    connection.send(sink, b"", b"")
    return connection, wire, sink


def test_what_happens_between_an_answer_and_the_turns_end() -> None:
    """Nothing spoils an answer that has come; who wants it no more hears nothing; what is spoilt is not used again."""

    async def scenario() -> None:
        pool = UpstreamPool(connect_timeout_s=1, idle_timeout_s=10, idle_connections_max=2)
        more, more_wire, more_sink = _asked(pool)
        more.data_received(ANSWER)
        more.data_received(b"more")
        assert more_sink.heard == []
        lost, _, lost_sink = _asked(pool)
        lost.data_received(ANSWER)
        lost.connection_lost(None)
        assert lost_sink.heard == [b"{}"]
        left, left_wire, left_sink = _asked(pool)
        left.data_received(ANSWER)
        left.abandon()
        usual, usual_wire, usual_sink = _asked(pool)
        usual.data_received(ANSWER)
        await asyncio.sleep(0)
        assert (more_sink.heard, more_wire.closed) == ([b"{}"], True)
        assert lost_sink.heard == [b"{}"]
        assert (left_sink.heard, left_wire.closed) == ([], True)
        assert (usual_sink.heard, usual_wire.closed) == ([b"{}"], False)
        assert pool.take(usual.target) is usual
        assert pool.take(usual.target) is None

    run(scenario())
