"""Streams through a real gateway on real sockets, cut anywhere: what the engine sent is what the client gets.

    python -m tests.fuzz relayed [chunks] [seed]

A piece is one write of the engine and, often, one chunk of its chunked coding, from a single byte on: within line
ends, within characters, within chunk headers. Streams are UTF-8 of all lengths with every kind of line end, or any
bytes at all with a length or without.
"""

import asyncio
import json
import tempfile
from itertools import pairwise
from pathlib import Path
from random import Random

from tests.fuzz import strict
from tests.support.gateway import Received, agent_state, chunk, gateway, post, upstream

_BODY = b'{"model":"chat","stream":true,"stream_options":{"include_usage":true}}'
_LETTERS = 'aZ09 "\\/{}[]:,äß€漢字😀\u2028\x7f\u0000'
_DONE = "data: [DONE]"
_CLIENTS = 8


def events(rng: Random) -> bytes:
    """A stream of server-sent events with its proper end."""
    end = rng.choice(["\n", "\r\n", "\r"])
    parts: list[str] = []
    for _ in range(rng.randrange(1, 60)):
        text = "".join(rng.choices(_LETTERS, k=rng.randrange(30)))
        content = json.dumps({"choices": [{"delta": {"content": text}}]}, ensure_ascii=rng.random() < 0.5)
        kind = rng.random()
        if kind < 0.1:
            parts.append(f": k{end}")
        elif kind < 0.2:
            parts.append(f"event: x{end}data: {content}{end}id: 7{end}{end}")
        else:
            parts.append(f"data: {content}{end}{end}")
    parts.append(f"{_DONE}{end}{end}")
    return "".join(parts).encode()


def pieces(rng: Random, data: bytes) -> list[bytes]:
    """Cut anywhere, now into single bytes, now into few."""
    count = len(data) if rng.random() < 0.3 else rng.randrange(1, 40)
    cuts = {rng.randrange(len(data) + 1) for _ in range(count)}
    return [data[start:end] for start, end in pairwise(sorted({0, len(data), *cuts}))]


class _Engine:
    """Sends what ``rng`` makes, and remembers it for the client that asked (by the request's ``x-request-id``)."""

    def __init__(self, rng: Random) -> None:
        self.sent: dict[str, bytes] = {}
        self.chunks = 0
        self._rng = rng

    async def answer(
        self, received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        rng = self._rng
        is_stream = rng.random() < 0.7
        content = events(rng) if is_stream else rng.randbytes(rng.randrange(1, 2000))
        self.sent[received.headers["x-request-id"]] = content
        head = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\n" % (
            b"text/event-stream" if is_stream else b"application/octet-stream"
        )
        if is_stream or rng.random() < 0.5:
            chunks = b"".join(map(chunk, pieces(rng, content)))
            framed = head + b"transfer-encoding: chunked\r\n\r\n" + chunks + chunk(b"")
        else:
            framed = head + b"content-length: %d\r\n\r\n" % len(content) + content
        alone = rng.random() < 0.5
        for piece in pieces(rng, framed):  # not where the chunks are cut, so their headers are cut as well
            writer.write(piece)
            self.chunks += 1
            if alone or rng.random() < 0.2:
                await asyncio.sleep(0)  # else the loop sends it with the next one
        await writer.drain()


async def relay(chunks: int, seed: int, directory: Path) -> int:
    """Send at least so many pieces through; the number of streams. Raises AssertionError where one differs."""
    rng = Random(seed)
    engine = _Engine(rng)
    streams = 0
    async with upstream(engine.answer) as served:
        state = agent_state(directory / "agent", served.port)
        async with gateway(directory / "gateway", state) as running:

            async def client(name: str) -> None:
                nonlocal streams
                reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
                while engine.chunks < chunks:
                    streams += 1
                    tag = f"{name}-{streams}"
                    writer.write(post(_BODY, headers=f"x-request-id: {tag}\r\n", close=False))
                    got = await _response(reader)
                    assert got == engine.sent.pop(tag), f"stream {tag} of seed {seed} differs"
                writer.close()

            await asyncio.gather(*(client(f"c{number}") for number in range(_CLIENTS)))
    return streams


async def _response(reader: asyncio.StreamReader) -> bytes:
    """One response's content, by its own framing."""
    data = await reader.readuntil(b"\r\n\r\n")
    if b"chunked" in data:
        while True:
            line = await reader.readline()
            data += line + await reader.readexactly(int(line, 16) + 2)
            if line == b"0\r\n":
                break
    else:
        length = int(data.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        data += await reader.readexactly(length)
    message, rest = strict.response(data, ended=False)
    assert message is not None
    assert rest == b""
    return message.body


def main(arguments: list[str]) -> int:
    """The command."""
    import uvloop

    chunks = int(arguments[0]) if arguments else 1_000_000
    seed = int(arguments[1]) if len(arguments) > 1 else 1
    with tempfile.TemporaryDirectory() as directory:
        streams = uvloop.run(relay(chunks, seed, Path(directory)))
    print(f"{chunks} pieces of {streams} answers passed unchanged (seed {seed})")  # noqa: T201
    return 0
