"""A slow client holds up its own answer and nothing else: what waits for it in the gateway stays below a bound."""

import asyncio
import json
import re
import socket
from pathlib import Path

import psutil
import pytest

from tests.support.gateway import (
    SSE_HEAD,
    Received,
    Running,
    agent_state,
    chunk,
    gateway,
    post,
    raw,
    run,
    upstream,
)
from tests.support.waiting import eventually_async

CHAT = json.dumps({"model": "chat", "messages": []}).encode()
_ANSWER_BYTES = 64 * 1024 * 1024
# The transport's high-water mark, one read from upstream (uvloop reads up to 256 KiB), and framing.
_WAITING_BYTES_MAX = 600 * 1024


def slow_client(port: int) -> socket.socket:
    """A client with a small window, so that the kernel hides little of what the gateway does."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    client.setblocking(False)
    return client


async def unsent_bytes(running: Running) -> int:
    """What the gateway holds for clients that do not read, by its own metric."""
    answer = await raw(running.port, b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    (value,) = re.findall(rb"^meridian_gateway_unsent_bytes (\S+)$", answer, re.MULTILINE)
    return int(float(value))


@pytest.mark.parametrize("streams", [True, False])
def test_an_answer_that_is_read_slowly_is_not_gathered(tmp_path: Path, streams: bool) -> None:
    """64 MB through a client that reads 64 KB now and then: bounded at every moment, and complete at the end."""

    async def scenario() -> None:
        event = b"data: " + b"X" * 8000 + b"\n\n"
        piece = chunk(event) if streams else event
        count = _ANSWER_BYTES // len(event)
        sent_bytes = 0

        async def script(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            nonlocal sent_bytes
            writer.transport.set_write_buffer_limits(high=65536)
            length = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (count * len(event))
            writer.write(SSE_HEAD if streams else length)
            for _ in range(count):
                writer.write(piece)
                await writer.drain()
                sent_bytes += len(event)
            if streams:
                writer.write(b"0\r\n\r\n")

        async with upstream(script) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state) as running:

                async def falls_behind() -> bool:
                    return await unsent_bytes(running) > 0

                loop = asyncio.get_running_loop()
                memory_before = psutil.Process().memory_info().rss
                client = slow_client(running.port)
                await loop.sock_sendall(client, post(CHAT))
                await eventually_async(falls_behind, what="the client falls behind")
                highest = 0
                before = -1
                while before != sent_bytes:  # until the engine is held up too
                    before = sent_bytes
                    await asyncio.sleep(0.2)
                    highest = max(highest, await unsent_bytes(running))
                assert sent_bytes < _ANSWER_BYTES / 4
                got_bytes = reads = 0
                # Nothing is kept of what was read: what grows is then the gateway's (and the engine's here).
                while data := await loop.sock_recv(client, 65536):
                    got_bytes += data.count(b"X")
                    reads += 1
                    if reads % 50 == 0:
                        highest = max(highest, await unsent_bytes(running))
                client.close()
                assert 0 < highest <= _WAITING_BYTES_MAX
                assert got_bytes == count * 8000
                assert psutil.Process().memory_info().rss - memory_before < 16 * 1024 * 1024

    run(scenario())


def test_answers_given_here_wait_for_their_reader_too(tmp_path: Path) -> None:
    """A client that asks and asks and does not read is neither answered nor read any further."""

    async def scenario() -> None:
        state = agent_state(tmp_path / "agent", 1)
        async with gateway(tmp_path / "gateway", state, pipelined_requests_max=10_000) as running:
            loop = asyncio.get_running_loop()
            client = slow_client(running.port)
            asked = 4000
            await loop.sock_sendall(client, b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n" * asked)
            highest = 0
            before = -1
            while not before == highest > 0:  # until nothing more is answered
                before = highest
                for _ in range(3):
                    await asyncio.sleep(0.1)
                    highest = max(highest, await unsent_bytes(running))
            assert highest <= _WAITING_BYTES_MAX
            answers = 0
            tail = b""
            while answers < asked:
                data = tail + await loop.sock_recv(client, 1024 * 1024)
                answers += data.count(b"HTTP/1.1 200 OK")
                tail = data[-14:]
            assert answers == asked
            client.close()

    run(scenario())
