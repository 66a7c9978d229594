"""What a session used is written down response by response, and adds up whatever happens to the gateway."""

import asyncio
import json
import signal
from pathlib import Path

import pytest

from tests.support.gateway import agent_state, gateway, run, upstream
from tests.support.waiting import eventually_async
from tests.support.websocket import CLOSE, TEXT, Engine, connect, frame, handshake, next_frame
from tests.workloadplane.gateway.test_process import program
from workloadplane.protocol.spool import SpoolReader
from workloadplane.protocol.usage import UsageRecord


def event(kind: str, **more: object) -> bytes:
    return frame(TEXT, json.dumps({"type": kind, **more}).encode(), masked=False)


def done(number: int) -> bytes:
    """The end of a response that used ``number`` tokens of its own."""
    details = {"cached_tokens": number // 2}
    usage = {"input_tokens": number, "output_tokens": 2 * number, "input_token_details": details}
    return event("response.done", response={"usage": usage})


class Answering:
    """An engine that makes a response for each message of the client, a byte of which says what it costs.

    A message of 0 begins a response that never ends; of 255 is the end of the connection.
    """

    def __init__(self) -> None:
        self.engine = Engine(self._talk)

    async def _talk(self, engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readexactly(6)
            if head[0] & 0x0F == CLOSE:
                writer.write(frame(CLOSE, b"\x03\xe8", masked=False))
                return
            number = (await reader.readexactly(1))[0] ^ head[2]
            if number == 255:
                return
            writer.write(event("response.created"))
            if number:
                writer.write(event("response.text.delta", delta="x") + done(number))


def ask(*numbers: int) -> bytes:
    return b"".join(frame(TEXT, bytes([number]), masked=True) for number in numbers)


async def read_until_done(reader: asyncio.StreamReader, responses: int) -> None:
    while responses:
        _, payload = await next_frame(reader)
        responses -= b"response.done" in payload


def tokens(records: list[UsageRecord]) -> list[tuple[int, int, int]]:
    return [(each.input_tokens, each.cached_tokens, each.output_tokens) for each in records]


def test_each_response_is_written_down_when_it_is_over(tmp_path: Path) -> None:
    """An open session's responses are in the spool already; its end adds nothing to them."""

    async def scenario() -> None:
        answering = Answering()
        async with upstream(answering.engine.script) as server:
            state = agent_state(tmp_path / "agent", server.port)
            async with gateway(tmp_path / "gateway", state) as running:
                _, reader, writer = await connect(running.port, handshake())
                writer.write(ask(4, 10))
                await read_until_done(reader, 2)
                records = await running.usage_of(2)
                writer.write(ask(7))
                await read_until_done(reader, 1)
                writer.write(frame(CLOSE, b"\x03\xe8", masked=True))
                assert (await next_frame(reader))[0] == CLOSE
                assert await reader.read() == b""
                writer.close()
            records = running.usage()
            assert tokens(records) == [(4, 2, 8), (10, 5, 20), (7, 3, 14)]
            assert [each.sequence for each in records] == [1, 2, 3]
            assert len({each.request_id for each in records}) == 1
            assert {(each.status, each.outcome, each.replica_id) for each in records} == {
                (101, "ok", "replica-1")
            }
            assert [each.queue_s > 0 for each in records] == [True, False, False], "it has waited once"
            (window,) = SpoolReader(tmp_path / "gateway" / "spool").pending(100).windows
            assert (window.requests, window.errors) == (3, 0)
            assert (window.input_tokens, window.output_tokens) == (21, 42)

    run(scenario())


@pytest.mark.parametrize(
    ("asked", "leaves", "outcomes"),
    [
        ((), True, ["client_gone"]),
        ((3,), True, ["ok"]),
        ((3, 0), True, ["ok", "client_gone"]),
        ((3, 255), False, ["ok", "upstream_error"]),
        ((3, 0, 255), False, ["ok", "upstream_error"]),
    ],
    ids=["no response", "at rest", "in a response", "lost at rest", "lost in a response"],
)
def test_the_end_adds_only_what_is_not_written_yet(
    tmp_path: Path, asked: tuple[int, ...], leaves: bool, outcomes: list[str]
) -> None:
    """A session without a response, one that leaves in a response's midst, one that its replica lost."""

    async def scenario() -> None:
        answering = Answering()
        async with upstream(answering.engine.script) as server:
            state = agent_state(tmp_path / "agent", server.port)
            async with gateway(tmp_path / "gateway", state) as running:
                _, reader, writer = await connect(running.port, handshake())
                writer.write(ask(*asked))
                await read_until_done(reader, len([each for each in asked if 0 < each < 255]))
                if 0 in asked:
                    assert b"response.created" in (await next_frame(reader))[1]
                if leaves:
                    writer.close()
                else:
                    assert (await next_frame(reader))[0] == CLOSE
                    writer.close()
                await eventually_async(lambda: not running.process._context.websockets)
            records = running.usage()
            assert [each.outcome for each in records] == outcomes
            assert tokens(records) == [(3, 1, 6)] * asked.count(3) + [(0, 0, 0)] * (
                len(records) - asked.count(3)
            )

    run(scenario())


def test_a_killed_gateway_loses_the_last_moment_at_most(tmp_path: Path) -> None:
    """kill -9 amid responses: what is in the spool is a beginning of what the client saw, short of it by a flush."""

    async def scenario() -> None:
        answering = Answering()
        directory = tmp_path / "gateway"
        async with upstream(answering.engine.script) as server:
            state = agent_state(tmp_path / "agent", server.port)
            async with program(state.directory, directory) as running:
                port = int(running.url.rpartition(":")[2])
                _, reader, writer = await connect(port, handshake())
                for number in range(1, 21):
                    writer.write(ask(number))
                    await read_until_done(reader, 1)

                def spooled() -> list[UsageRecord]:
                    return list(SpoolReader(directory / "spool").pending(1000).usage)

                await eventually_async(lambda: len(spooled()) == 20, what="all that is over is on the disk")
                for number in range(21, 41):
                    writer.write(ask(number))
                    await read_until_done(reader, 1)
                running.process.send_signal(signal.SIGKILL)
                await running.process.wait()
                writer.close()
                left = tokens(spooled())
                assert 20 <= len(left) <= 40
                assert left == [(number, number // 2, 2 * number) for number in range(1, len(left) + 1)]

    run(scenario())


def test_seconds_of_speech_are_counted(tmp_path: Path) -> None:
    """A transcription that is told in seconds is written down in seconds."""

    async def scenario() -> None:
        async def talk(engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(event("transcription.done", usage={"type": "duration", "seconds": 2.5}))
            await engine.gather(reader)

        engine = Engine(talk)
        async with upstream(engine.script) as server:
            state = agent_state(tmp_path / "agent", server.port)
            async with gateway(tmp_path / "gateway", state) as running:
                _, reader, writer = await connect(running.port, handshake())
                await next_frame(reader)
                (record,) = await running.usage_of(1)
                assert (record.audio_input_s, record.outcome) == (2.5, "ok")
                writer.close()

    run(scenario())
