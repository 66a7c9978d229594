"""WebSocket frames and scripted WebSocket engines for tests that look at a tunnel from outside."""

import asyncio
import base64
import hashlib
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tests.support.gateway import SECRET, Received, Script

TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 0x1, 0x2, 0x8, 0x9, 0xA, 0x0
KEY = base64.b64encode(b"sixteen bytes ok").decode()


def accept(key: str) -> str:
    digest = hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False)
    return base64.b64encode(digest.digest()).decode()


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    masked: bool,
    final: bool = True,
    reserved: int = 0,
    key: bytes = b"",
) -> bytes:
    """One frame; clients' are masked."""
    length = len(payload)
    mask_bit = 0x80 if masked else 0
    head = bytes([(0x80 if final else 0) | reserved | opcode])
    if length < 126:
        head += bytes([mask_bit | length])
    elif length < 1 << 16:
        head += bytes([mask_bit | 126]) + length.to_bytes(2, "big")
    else:
        head += bytes([mask_bit | 127]) + length.to_bytes(8, "big")
    if not masked:
        return head + payload
    key = key or os.urandom(4)
    pad = (key * (length // 4 + 1))[:length]
    hidden = int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")
    return head + key + hidden.to_bytes(length, "big")


def handshake(
    path: str = "/v1/realtime?model=chat", headers: str = "", *, authorized: bool = True, key: str = KEY
) -> bytes:
    """A client's handshake in bytes."""
    authorization = f"authorization: Bearer {SECRET}\r\n" if authorized else ""
    return (
        f"GET {path} HTTP/1.1\r\nhost: gateway\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
        f"sec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n{authorization}{headers}\r\n"
    ).encode()


def switching(received: Received, headers: str = "") -> bytes:
    """An engine's 101."""
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept(received.headers['sec-websocket-key'])}\r\n{headers}\r\n"
    ).encode()


@dataclass
class Engine:
    """A scripted engine that switches and then does as ``talk`` says; ``got``: the tunnel's bytes as they came."""

    talk: Callable[["Engine", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    headers: str = ""
    got: bytearray = field(default_factory=bytearray)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def script(self) -> Script:
        async def script(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            writer.write(switching(received, self.headers))
            try:
                await self.talk(self, reader, writer)
            finally:
                self.ended.set()
                writer.close()

        return script

    async def gather(self, reader: asyncio.StreamReader) -> None:
        """Take all that comes."""
        while data := await reader.read(65536):
            self.got += data


async def connect(port: int, request: bytes) -> tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a handshake; the answer's head and the open connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    return await reader.readuntil(b"\r\n\r\n"), reader, writer


async def next_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Opcode and payload of a server's next frame."""
    first, second = await reader.readexactly(2)
    length = second & 0x7F
    if length > 125:
        length = int.from_bytes(await reader.readexactly(2 if length == 126 else 8), "big")
    return first & 0x0F, await reader.readexactly(length)


async def close_code(reader: asyncio.StreamReader) -> int:
    """The code of the Close frame that comes next."""
    opcode, payload = await next_frame(reader)
    assert opcode == CLOSE, f"opcode {opcode} with {payload[:100]!r}"
    return int.from_bytes(payload[:2], "big")
