"""A new gateway takes over from the one that serves, and no client notices."""

import asyncio
import contextlib
import signal
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.gateway import SSE_HEAD, Received, agent_state, chunk, json_answer, post, run, upstream
from tests.support.gateway_program import Program, program
from tests.support.waiting import eventually_async
from tests.support.websocket import Engine, close_code, connect, handshake
from workloadplane.gateway.handover import heir
from workloadplane.protocol.spool import SpoolReader

STREAMS = 200
EVENTS = 12
STREAM = post(b'{"model":"chat","messages":[],"stream":true}', close=False)
PLAIN = post(b'{"model":"chat","messages":[]}', close=False)


@dataclass
class Clients:
    """What clients saw: how each stream and each small request ended. ``tls``: ``None`` = plain."""

    port: int
    tls: ssl.SSLContext | None = None
    begun: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=self.tls)

    async def stream(self) -> None:
        reader, writer = await self._connect()
        writer.write(STREAM)
        seen = b""
        with contextlib.suppress(ConnectionError):
            while not seen.endswith(b"0\r\n\r\n"):
                data = await reader.read(65536)
                if not data:
                    break
                if not seen:
                    self.begun += 1
                seen += data
        whole = seen.count(b"data: {") == EVENTS and b"[DONE]" in seen and b"error" not in seen
        self.ended["stream whole" if whole else f"stream broken after {seen[-200:]!r}"] += 1
        writer.close()

    async def fresh(self) -> None:
        """A connection for every request, one after the other."""
        while not self.stop.is_set():
            await self._ask_fresh()

    async def _ask_fresh(self) -> None:
        try:
            reader, writer = await self._connect()
            writer.write(PLAIN)
            head = await reader.readuntil(b"\r\n\r\n")
            writer.close()
        except (OSError, asyncio.IncompleteReadError) as error:
            self.ended[f"fresh lost: {error!r}"] += 1
        else:
            self.ended["fresh " + head.split(b" ")[1].decode()] += 1

    async def pooled(self, pause_s: float) -> None:
        """One connection for as long as the gateway keeps it; told that it ends, a new one. Never a retry."""
        while not self.stop.is_set():
            reader, writer = await self._connect()
            with contextlib.closing(writer):
                await self._ask_pooled(reader, writer, pause_s)

    async def _ask_pooled(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pause_s: float
    ) -> None:
        while not self.stop.is_set():
            writer.write(PLAIN)
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(2)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.ended[f"pooled lost: {error!r}"] += 1
                return
            self.ended["pooled " + head.split(b" ")[1].decode()] += 1
            if b"connection: close" in head:
                return
            await asyncio.sleep(pause_s)


async def paced(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Streams of a few seconds; anything else at once."""
    if b'"stream":true' not in received.body:
        writer.write(json_answer(b"{}"))
        return
    writer.write(SSE_HEAD)
    for _ in range(EVENTS):
        writer.write(chunk(b'data: {"choices":[]}\n\n'))
        await writer.drain()
        await asyncio.sleep(0.4)
    writer.write(chunk(b"data: [DONE]\n\n") + chunk(b""))


@contextlib.asynccontextmanager
async def _busy(clients: Clients) -> AsyncIterator[None]:
    """While 200 streams and many small requests are under way; in the end all must have gone well."""
    streams = [asyncio.create_task(clients.stream()) for _ in range(STREAMS)]
    others = [asyncio.create_task(clients.fresh()) for _ in range(2)]
    others += [asyncio.create_task(clients.pooled(0.01 * n)) for n in range(12)]
    await eventually_async(lambda: clients.begun == STREAMS, what="all streams run", within_s=30)
    yield
    await asyncio.gather(*streams)
    before = sum(clients.ended.values())
    await eventually_async(lambda: sum(clients.ended.values()) > before + 50)
    clients.stop.set()
    await asyncio.gather(*others)
    assert set(clients.ended) == {"stream whole", "fresh 200", "pooled 200"}, clients.ended
    assert clients.ended["stream whole"] == STREAMS


async def _ends(running: Program) -> None:
    running.process.terminate()
    assert await running.process.wait() == 0


def _counted_once(directory: Path, clients: Clients) -> None:
    records = SpoolReader(directory / "spool").pending(1_000_000).usage
    assert len(records) == sum(clients.ended.values())
    assert {record.outcome for record in records} == {"ok"}
    assert len({record.gateway_instance for record in records}) == 2


@pytest.mark.slow
def test_an_upgrade_drops_nothing(tmp_path: Path) -> None:
    """200 streams run on to their ends, new connections and idle ones are served throughout, usage counts once."""

    async def scenario() -> None:
        async with upstream(paced) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            directory = tmp_path / "gateway"
            async with program(state.directory, directory) as old:
                clients = Clients(old.port)
                async with contextlib.AsyncExitStack() as stack:
                    async with _busy(clients):
                        new = await stack.enter_async_context(
                            program(state.directory, directory, "--take-over")
                        )
                        assert new.port == old.port
                        await eventually_async(lambda: "a successor serves" in str(old.told))
                    assert await asyncio.wait_for(old.process.wait(), 10) == 0
                    assert not any("took over" in str(entry) for entry in old.told)
                    await _ends(new)
            _counted_once(directory, clients)

    run(scenario(), within_s=60)


@pytest.mark.slow
def test_a_renewal_and_an_upgrade_over_tls_drop_nothing(tmp_path: Path) -> None:
    """The same over TLS, whose connections cannot move; and before it the certificate is renewed under this load."""

    async def scenario() -> None:
        authority = Authority()
        trusted = ssl.create_default_context(cafile=authority.write_authority(tmp_path / "ca.pem"))
        certificate, key = authority.write(tmp_path / "tls", "127.0.0.1")
        async with upstream(paced) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            directory = tmp_path / "gateway"
            options = ("--tls-certificate", str(certificate), "--tls-key", str(key))
            async with program(state.directory, directory, *options) as old:
                clients = Clients(old.port, trusted)
                async with contextlib.AsyncExitStack() as stack:
                    async with _busy(clients):
                        authority.write(tmp_path / "tls", "127.0.0.1")
                        renewed = ssl.PEM_cert_to_DER_cert(certificate.read_text())
                        await eventually_async(lambda: _shown(clients, renewed), what="the new certificate")
                        new = await stack.enter_async_context(
                            program(state.directory, directory, "--take-over", *options)
                        )
                        assert new.port == old.port
                        await eventually_async(lambda: "a successor serves" in str(old.told))
                    assert await asyncio.wait_for(old.process.wait(), 10) == 0
                    await _ends(new)
            _counted_once(directory, clients)

    run(scenario(), within_s=90)


async def _shown(clients: Clients, certificate: bytes) -> bool:
    _, writer = await clients._connect()
    shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return shown == certificate


def test_a_handshake_under_way_is_waited_for(tmp_path: Path) -> None:
    """A TLS client accepted just before the end is served; one that speaks no TLS, or has gone, delays no end."""

    async def scenario() -> None:
        authority = Authority()
        trusted = ssl.create_default_context(cafile=authority.write_authority(tmp_path / "ca.pem"))
        certificate, key = authority.write(tmp_path / "tls", "127.0.0.1")
        async with upstream(paced) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            options = ("--tls-certificate", str(certificate), "--tls-key", str(key))
            async with program(state.directory, tmp_path / "gateway", *options) as old:
                for word in (b"", b"GET / HTTP/1.1\r\n\r\n"):
                    _, probe = await asyncio.open_connection("127.0.0.1", old.port)
                    probe.write(word)
                    probe.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", old.port)
                await _has_accepted(old, 1)
                async with program(state.directory, tmp_path / "gateway", "--take-over", *options):
                    await eventually_async(lambda: "gateway drains" in str(old.told))
                    await writer.start_tls(trusted, server_hostname="127.0.0.1")
                    writer.write(PLAIN)
                    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
                    assert await asyncio.wait_for(old.process.wait(), 5) == 0
                    writer.close()

    run(scenario())


async def _has_accepted(running: Program, connections: int) -> None:
    """This many connections of clients are open in it."""
    own = Path(f"/proc/{running.process.pid}/fd")
    suffix = f":{running.port:04X}"

    def accepted() -> bool:
        held = {entry.readlink().name for entry in own.iterdir() if entry.is_symlink()}
        rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        mine = [row for row in rows if row[1].endswith(suffix) and row[3] == "01"]
        return sum(f"socket:[{row[9]}]" in held for row in mine) == connections

    await eventually_async(accepted, what="the connections are accepted")


def test_an_idle_connection_moves_to_the_successor(tmp_path: Path) -> None:
    """A connection kept alive is answered by the old gateway, then by the new one, and was never closed."""

    async def scenario() -> None:
        async with upstream(paced) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            directory = tmp_path / "gateway"
            async with program(state.directory, directory) as old:
                idle = [await asyncio.open_connection("127.0.0.1", old.port) for _ in range(100)]
                for number, (reader, writer) in enumerate(idle):
                    if number % 2:  # the others have never asked anything
                        writer.write(PLAIN)
                        await reader.readuntil(b"\r\n\r\n{}")
                async with program(state.directory, directory, "--take-over"):
                    assert await old.process.wait() == 0
                    for reader, writer in idle:
                        writer.write(PLAIN)
                        head = await reader.readuntil(b"\r\n\r\n")
                        assert head.startswith(b"HTTP/1.1 200 ")
                        assert b"connection: close" not in head.lower()
                        writer.close()

    run(scenario())


def test_a_session_is_told_of_the_restart(tmp_path: Path) -> None:
    """A WebSocket stays with its process, which closes it with 1012; the client's next one meets the successor."""

    async def scenario() -> None:
        async def quiet(engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await engine.gather(reader)

        async with upstream(Engine(quiet).script) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            directory = tmp_path / "gateway"
            async with program(state.directory, directory) as old:
                _, reader, writer = await connect(old.port, handshake())
                async with program(state.directory, directory, "--take-over"):
                    assert await close_code(reader) == 1012
                    writer.close()
                    head, _, writer = await connect(old.port, handshake())
                    assert head.startswith(b"HTTP/1.1 101 ")
                    writer.close()
                    assert await asyncio.wait_for(old.process.wait(), 10) == 0

    run(scenario())


def test_a_successor_that_fails_changes_nothing(tmp_path: Path) -> None:
    """One that dies before it serves, and one that cannot have the port it wants, leave the old one as it was."""

    async def scenario() -> None:
        async with upstream(paced) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            directory = tmp_path / "gateway"
            async with program(state.directory, directory) as old:
                for _ in range(2):
                    asked = await asyncio.to_thread(heir.ask, directory, 0)
                    assert asked is not None
                    asked.decline()
                command = [sys.executable, "-m", "workloadplane.gateway", "--take-over"]
                command += ["--agent-state-dir", str(state.directory), "--state-dir", str(directory)]
                failed = await asyncio.create_subprocess_exec(
                    *command, "--port", str(engine.port), stderr=subprocess.DEVNULL
                )
                assert await failed.wait() == 1
                await _asks(old.port)
                assert old.process.returncode is None
                assert "a successor serves" not in str(old.told)
                async with program(state.directory, directory, "--take-over") as new:
                    assert await old.process.wait() == 0
                    await _asks(new.port)

    run(scenario())


async def _asks(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(PLAIN)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    writer.close()


def test_a_second_successor_is_refused_while_one_starts(tmp_path: Path) -> None:
    """Two that start at once would both serve, and the next could find only one of them: one has to try again."""

    async def scenario() -> None:
        async with upstream(paced) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            directory = tmp_path / "gateway"
            async with program(state.directory, directory) as old:
                first = await asyncio.to_thread(heir.ask, directory, 0)
                assert first is not None
                with pytest.raises(OSError, match="handing over already"):
                    await asyncio.to_thread(heir.ask, directory, 0)
                first.decline()
                async with (
                    program(state.directory, directory, "--take-over") as second,
                    program(state.directory, directory, "--take-over") as third,
                ):
                    assert await old.process.wait() == 0
                    assert await second.process.wait() == 0
                    await _asks(third.port)

    run(scenario())


def test_a_successor_told_to_end_before_it_serves_changes_nothing(tmp_path: Path) -> None:
    """SIGTERM in the midst of an upgrade: whoever got it ends, and the other one serves."""

    async def scenario() -> None:
        async with upstream(paced) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            directory = tmp_path / "gateway"
            async with program(state.directory, directory) as old:
                command = [sys.executable, "-m", "workloadplane.gateway", "--take-over", "--port", "0"]
                command += ["--agent-state-dir", str(state.directory), "--state-dir", str(directory)]
                successor = await asyncio.create_subprocess_exec(*command, stderr=subprocess.DEVNULL)
                # No agent answers, so it waits for one a while before it serves.
                await eventually_async(lambda: _listens(successor.pid, old.port), what="it has the socket")
                successor.terminate()
                assert await successor.wait() == 0
                await _asks(old.port)
                assert "a successor serves" not in str(old.told)
                assert old.process.returncode is None

    run(scenario())


def _listens(pid: int, port: int) -> bool:
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {row[9] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A"}
    held = set()
    with contextlib.suppress(OSError):
        held = {entry.readlink().name for entry in Path(f"/proc/{pid}/fd").iterdir()}
    return any(f"socket:[{inode}]" in held for inode in inodes)


def test_one_that_was_told_to_end_is_still_succeeded(tmp_path: Path) -> None:
    """It listens no more, so its successor listens anew; its streams go on, and its end harms nobody."""

    async def scenario() -> None:
        async with upstream(paced) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            directory = tmp_path / "gateway"
            async with program(state.directory, directory) as old:
                clients = Clients(old.port)
                stream = asyncio.create_task(clients.stream())
                await eventually_async(lambda: clients.begun == 1)
                old.process.send_signal(signal.SIGTERM)
                await eventually_async(lambda: "gateway drains" in str(old.told))
                options = ("--take-over", "--port", str(old.port))
                async with program(state.directory, directory, *options) as new:
                    await _asks(new.port)
                    await stream
                    assert clients.ended == {"stream whole": 1}
                    assert await old.process.wait() == 0
                    async with program(state.directory, directory, "--take-over") as newest:
                        assert await new.process.wait() == 0
                        await _asks(newest.port)

    run(scenario())


def test_without_a_predecessor_it_starts_as_usual(tmp_path: Path) -> None:
    """After a kill there is nobody to take over from; the stale socket in the directory is no obstacle."""

    async def scenario() -> None:
        async with upstream(paced) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            directory = tmp_path / ("long" * 40) / "gateway"
            async with program(state.directory, directory, "--take-over") as first:
                first.process.kill()
                await first.process.wait()
                async with program(state.directory, directory, "--take-over") as second:
                    await _asks(second.port)
                    async with program(state.directory, directory, "--take-over") as third:
                        assert await second.process.wait() == 0
                        await _asks(third.port)

    run(scenario())
