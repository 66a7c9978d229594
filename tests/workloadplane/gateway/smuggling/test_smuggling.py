"""Requests made to be two for one reader and one for another: read as what they are, or refused whole."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.fuzz import strict
from tests.support.gateway import agent_state, gateway, json_answer, raw, run
from tests.workloadplane.gateway.smuggling.cases import CHAT, Case, load
from workloadplane.gateway.limits import Limits
from workloadplane.gateway.reader import Request, RequestReader
from workloadplane.gateway.routes import ROUTES

CASES = load()
_SLICES = (10_000, 1, 7)


def read(data: bytes, slice_bytes: int) -> tuple[list[Request], bool]:
    """Requests that come of it, and whether the rest is refused."""
    reader = RequestReader(Limits())
    for start in range(0, len(data), slice_bytes):
        reader.feed(data[start : start + slice_bytes])
        if reader.request.failure is not None or reader.upgraded is not None:
            break
    return reader.ready, reader.request.failure is not None or reader.upgraded is not None


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_reader_takes_each_for_what_it_is(case: Case) -> None:
    """In one piece, in sevens and byte by byte: as many requests as there are, with their own bodies."""
    for slice_bytes in _SLICES:
        ready, refused = read(case.data, slice_bytes)
        assert len(ready) == case.requests
        assert refused == case.refused


class Recorder:
    """An engine that keeps every byte and answers each request that a second reader sees in them."""

    def __init__(self) -> None:
        self._got: list[bytearray] = []
        self._seen: list[strict.Message] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kept = bytearray()
        self._got.append(kept)
        while data := await reader.read(65536):
            kept += data
            seen, _ = strict.requests(bytes(kept))
            self._seen += seen
            for message in seen:
                again = _again(message)
                assert kept.startswith(again)
                del kept[: len(again)]
                writer.write(json_answer(b"{}"))
        writer.close()

    def take(self) -> list[strict.Message]:
        """The requests since the last call, and that there was not a byte besides them."""
        assert not any(self._got), "bytes beside the requests"
        seen, self._seen = self._seen, []
        return seen


def _again(message: strict.Message) -> bytes:
    """The request as the gateway writes them: nothing but one line a header, and the body."""
    lines = b"".join(b"%s: %s\r\n" % header for header in message.headers)
    return b"%s %s HTTP/1.1\r\n%s\r\n%s" % (*message.start, lines, message.body)


@asynccontextmanager
async def recorder() -> AsyncIterator[tuple[Recorder, int]]:
    made = Recorder()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    try:
        yield made, server.sockets[0].getsockname()[1]
    finally:
        server.close()


def test_engines_get_each_request_once_and_nothing_else(tmp_path: Path) -> None:
    """Through a real gateway, in one piece and in two: never two requests where one was sent, nor a stray byte."""

    async def one(case: Case, port: int, engine: Recorder, parts: tuple[bytes, ...]) -> None:
        answer = await raw(port, *parts, half_close=True)
        relayed = [
            request
            for request in read(case.data, 10_000)[0]
            if request.method == b"POST" and request.path in ROUTES and request.body
        ]
        seen = engine.take()
        assert [each.body for each in seen] == [request.body for request in relayed], case
        assert all(each.body == CHAT or b"POST /v1/embeddings" in each.body for each in seen), case
        assert b"smuggled" not in b"".join(value for each in seen for _, value in each.headers), case
        final = answer.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"").split(b"HTTP/1.1 ")[1:]
        if case.requests == 0:
            assert all(each[:1] == b"4" for each in final), case
            assert len(final) <= 1, case
        else:
            assert len(final) <= case.requests + case.refused, case

    async def scenario() -> None:
        async with recorder() as (engine, engine_port):
            state = agent_state(tmp_path / "agent", engine_port)
            async with gateway(tmp_path / "gateway", state) as running:
                for case in CASES:
                    await one(case, running.port, engine, (case.data,))
                    half = len(case.data) // 2
                    await one(case, running.port, engine, (case.data[:half], case.data[half:]))

    run(scenario())
