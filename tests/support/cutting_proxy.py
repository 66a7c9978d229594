"""A TCP proxy that cuts a stream of events where it is told to: a replica's death, as its client sees it."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field


@dataclass
class Cuts:
    """When to cut. ``after_events``: of one answer, in turn for each answer that streams; ``None`` = let it pass.

    half: how many bytes of the event after that still pass
    first: awaited with the port behind the proxy before a cut, while nothing more passes: kills whoever answers
    pace_s: between the events of an answer, however quickly its engine makes them
    """

    after_events: list[int | None] = field(default_factory=list)
    half: int = 0
    done: int = 0
    first: Callable[[int], Awaitable[None]] | None = None
    pace_s: float = 0.0


class _Answer:
    """Counts the events of one connection's answers and says how much may pass."""

    def __init__(self, cuts: Cuts) -> None:
        self._cuts = cuts
        self._events = 0
        self._after: int | None = None

    def began(self) -> None:
        self._events = 0
        self._after = self._cuts.after_events.pop(0) if self._cuts.after_events else None

    def passes(self, data: bytes) -> tuple[bytes, bool]:
        """What of this may pass, and whether the connection is cut behind it."""
        if self._after is None:
            return data, False
        start = 0
        while (at := data.find(b"\n\n", start)) >= 0:
            self._events += 1
            start = at + 2
            if self._events == self._after:
                self._cuts.done += 1
                return data[: start + self._cuts.half], True
        return data, False


@contextlib.asynccontextmanager
async def cutting_proxy(port: int, cuts: Cuts) -> AsyncIterator[int]:
    """A proxy to ``port`` of this machine while the block runs; yields its own port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.transport.abort()
            return
        answer = _Answer(cuts)

        async def up() -> None:
            while data := await reader.read(65536):
                if data.startswith(b"POST") and b'"stream":true' in data.replace(b" ", b""):
                    answer.began()
                up_writer.write(data)
                await up_writer.drain()

        async def down() -> None:
            while data := await up_reader.read(65536):
                passed, cut = answer.passes(data)
                for part in re.split(rb"(?<=\n\n)", passed) if cuts.pace_s else [passed]:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(cuts.pace_s)
                if cut:
                    if cuts.first is not None:
                        await cuts.first(port)
                    return

        tasks = [asyncio.create_task(up()), asyncio.create_task(down())]
        with contextlib.suppress(ConnectionError):
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        up_writer.transport.abort()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
