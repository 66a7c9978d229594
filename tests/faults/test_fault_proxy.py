"""The proxy that the matrix puts between two parts: silence by caller, refusals, errors, and all well again."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

from tests.support.fault_proxy import Sockets, fault_proxy
from tests.support.gateway import run
from tests.support.waiting import eventually_async


@contextlib.asynccontextmanager
async def _echo(port: int = 0) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def _say(port: int, text: bytes) -> bytes:
    """To the end on both sides."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text)
    writer.write_eof()
    try:
        return await reader.read()
    finally:
        writer.close()


def test_what_was_silent_arrives_when_the_way_is_whole_again() -> None:
    """Bytes wait, the connection stays open; nothing is left behind when it has ended."""

    async def scenario() -> None:
        async with _echo() as port, fault_proxy(port) as proxy:
            assert await _say(proxy.port, b"before") == b"before"
            proxy.cut(None)
            waiting = asyncio.create_task(_say(proxy.port, b"meanwhile"))
            await eventually_async(lambda: any(way.waits for way in proxy.ways), what="it waits")
            assert not waiting.done()
            proxy.mend()
            assert await waiting == b"meanwhile"
            await eventually_async(lambda: not proxy.ways, what="no connection is kept")

    run(scenario())


def test_a_way_is_cut_for_one_caller_alone() -> None:
    """Another process goes on being answered."""

    async def scenario() -> None:
        async with _echo() as port, fault_proxy(port) as proxy:
            proxy.cut(frozenset({os.getpid()}))
            waiting = asyncio.create_task(_say(proxy.port, b"mine"))
            program = (
                "import socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1])));"
                "s.sendall(b'yours'); s.shutdown(1); print(s.recv(9).decode())"
            )
            other = await asyncio.create_subprocess_exec(
                sys.executable, "-c", program, str(proxy.port), stdout=subprocess.PIPE
            )
            said, _ = await other.communicate()
            assert said == b"yours\n"
            assert not waiting.done()
            proxy.mend()
            assert await waiting == b"mine"

    run(scenario())


def test_a_dead_server_is_refused_until_it_listens_again() -> None:
    """As if the proxy was not there."""

    async def scenario() -> None:
        async with contextlib.AsyncExitStack() as stack:
            first = contextlib.AsyncExitStack()
            port = await first.enter_async_context(_echo())
            proxy = await stack.enter_async_context(fault_proxy(port))
            await first.aclose()
            proxy.goes_down()
            with pytest.raises(ConnectionRefusedError):
                await _say(proxy.port, b"x")
            await stack.enter_async_context(_echo(port))

            async def answers() -> bool:
                with contextlib.suppress(ConnectionError):
                    return await _say(proxy.port, b"again") == b"again"
                return False

            await eventually_async(answers, what="it takes connections again")

    run(scenario())


def test_errors_are_answered_and_then_no_longer() -> None:
    """500 to whoever asks."""

    async def scenario() -> None:
        async with _echo() as port, fault_proxy(port) as proxy:
            proxy.answers_errors = True
            assert (await _say(proxy.port, b"GET / HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 500 ")
            proxy.mend()
            assert await _say(proxy.port, b"well") == b"well"

    run(scenario())


def test_the_kernel_says_whose_a_socket_is() -> None:
    """By pid; one that has ended has none."""

    async def scenario() -> None:
        async with _echo() as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            own = writer.get_extra_info("sockname")[1]
            assert Sockets(frozenset({os.getpid()})).own(own, port)
            assert not Sockets(frozenset({os.getpid()})).own(own, port + 1)
            assert not Sockets(frozenset({os.getppid(), 2**22 + 1})).own(own, port)
            writer.close()

    run(scenario())
