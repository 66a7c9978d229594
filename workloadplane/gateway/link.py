"""The gateway's end of the agent's socket: what comes is put in force and acknowledged, load goes back.

An agent that is away changes nothing: the gateway goes on with what it has and knocks again, quickly at first.
At start, before the agent has been heard, it takes what the agent left on its disk.
"""

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import msgspec
import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from workloadplane.gateway.context import GatewayContext
from workloadplane.gateway.decoded import PreparedTable
from workloadplane.protocol.local import (
    MAX_LINE_BYTES,
    Acknowledgement,
    EndpointSet,
    EngineLoads,
    FromAgent,
    FromGateway,
    Hello,
    Identity,
    LoadReport,
    PlaneHeard,
    TablePush,
)
from workloadplane.protocol.refusal import Refusal
from workloadplane.protocol.socketpath import agent_socket
from workloadplane.protocol.statefile import read_state
from workloadplane.protocol.tables import Table

_log = structlog.get_logger(__name__)
_from_agent = msgspec.json.Decoder(FromAgent)
_encoder = msgspec.json.Encoder()
_RETRY_S_MIN = 0.05
_RETRY_S_MAX = 1.0
_WRITE_BUFFER_BYTES_MAX = 4 * 1024 * 1024


class AgentLink:
    """Owns the connection to the agent. ``on_change`` is called when replicas or routes may have changed."""

    def __init__(self, context: GatewayContext, agent_state_dir: Path, on_change: Callable[[], None]) -> None:
        self._context = context
        self._agent_state_dir = agent_state_dir
        self._on_change = on_change
        self._writer: asyncio.StreamWriter | None = None
        self._reported: LoadReport | None = None

    def load_from_disk(self) -> None:
        """Take identity, tables and replicas as the agent left them. What is damaged or forged is passed over."""
        directory = self._agent_state_dir
        self._take_from_disk(directory / "identity.json", Identity)
        self._read_private_key()
        for kind in ("keyset", "routing"):
            self._take_table_from_disk(kind, directory / "tables" / f"{kind}.json")
        self._take_from_disk(directory / "endpoints.json", EndpointSet)
        self._context.registry.loaded_s = monotonic()
        self._on_change()

    async def run(self) -> None:
        """Stay connected until cancelled."""
        retry_s = _RETRY_S_MIN
        while True:
            try:
                if await self._converse():
                    retry_s = _RETRY_S_MIN
            except (OSError, ValueError, asyncio.IncompleteReadError) as error:
                _log.debug("agent not reached", reason=str(error))
            finally:
                self._writer = None
            await asyncio.sleep(retry_s)
            retry_s = min(retry_s * 2, _RETRY_S_MAX)

    def report_load(self, *, always: bool = False) -> None:
        """Tell the agent what runs and waits, if that has changed since or something runs."""
        registry = self._context.registry
        ejected = registry.ejections.ejected(registry.endpoints)
        in_flight = registry.in_flight
        if registry.promised:
            in_flight = Counter(in_flight) + registry.promised
        peers = self._context.vantage.standings(monotonic())
        report = self._context.traffic.load_report(in_flight, ejected, peers)
        if always or report.deployments or report != self._reported:
            self._reported = report
            self._send(report)

    async def _converse(self) -> bool:
        """One connection's life; whether the agent said anything."""
        path = agent_socket(self._agent_state_dir)
        reader, writer = await asyncio.open_unix_connection(path, limit=MAX_LINE_BYTES)
        self._writer = writer
        self._reported = None
        heard = False
        try:
            self._send(Hello(gateway_instance=self._context.spool.gateway_instance, pid=os.getpid()))
            self.report_load(always=True)
            while line := await reader.readline():
                heard = True
                await self._take_line(line)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        return heard

    async def _take_line(self, line: bytes) -> None:
        try:
            # Large tables are decoded and verified in a thread: requests must not wait for that.
            message = await asyncio.to_thread(_from_agent.decode, line)
        except msgspec.DecodeError as error:
            _log.warning("message of the agent not understood", reason=str(error)[:200])
            return
        if isinstance(message, PlaneHeard):
            registry = self._context.registry
            if message.routing_generation <= registry.generation("routing"):
                registry.plane_heard_s = message.at_monotonic_s
            return
        if isinstance(message, EngineLoads):
            self._context.affinity.take_loads(message, monotonic())
            return
        if isinstance(message, TablePush):
            registry = self._context.registry
            prepared = await asyncio.to_thread(registry.prepare_table, message.kind, message.table)
            self._take_table(message.kind, prepared)
        else:
            if isinstance(message, Identity):
                await asyncio.to_thread(self._read_private_key)
            self._take(message)
        self._on_change()

    def _take_table(self, kind: str, prepared: PreparedTable | Refusal) -> None:
        registry = self._context.registry
        if isinstance(prepared, Refusal):
            self._note(prepared)
        else:
            registry.install_table(prepared)
        self._send(Acknowledgement(kind=kind, generation=registry.generation(kind)))

    def _take(self, message: EndpointSet | Identity) -> None:
        registry = self._context.registry
        if isinstance(message, Identity):
            registry.set_identity(message)
            return
        self._note(registry.adopt_endpoints(message))
        self._send(Acknowledgement(kind="endpoints", generation=registry.endpoint_generation))

    def _note(self, refusal: Refusal | None) -> None:
        if refusal is not None:
            self._context.counters.refused_tables[refusal.rule] += 1
            _log.warning("not put in force", reason=str(refusal))

    def _send(self, message: FromGateway) -> None:
        writer = self._writer
        if writer is None or writer.is_closing():
            return
        if writer.transport.get_write_buffer_size() > _WRITE_BUFFER_BYTES_MAX:
            writer.transport.abort()  # an agent that does not read is as good as away
            return
        writer.write(_encoder.encode(message) + b"\n")

    def _take_from_disk(self, path: Path, kind: type[Identity | EndpointSet]) -> None:
        content = self._read(path)
        if content is not None:
            try:
                self._take(msgspec.json.decode(content, type=kind))
            except msgspec.DecodeError as error:
                _log.warning("state file passed over", file=path.name, reason=str(error)[:200])

    def _take_table_from_disk(self, kind: str, path: Path) -> None:
        content = self._read(path)
        if content is not None:
            try:
                table = msgspec.json.decode(content, type=Table)
                self._take_table(kind, self._context.registry.prepare_table(kind, table))
            except msgspec.DecodeError as error:
                _log.warning("state file passed over", file=path.name, reason=str(error)[:200])

    def _read(self, path: Path) -> bytes | None:
        try:
            content = read_state(path)
        except OSError as error:
            _log.warning("state file not read", file=path.name, reason=str(error))
            return None
        if isinstance(content, Refusal):
            _log.warning("state file passed over", file=path.name, reason=str(content))
            return None
        return content

    def _read_private_key(self) -> None:
        path = self._agent_state_dir / "agent_key"
        try:
            key = load_pem_private_key(path.read_bytes(), password=None)
        except FileNotFoundError:
            return
        except (OSError, ValueError, UnsupportedAlgorithm) as error:
            _log.warning("agent's key not read", reason=str(error))
            return
        if isinstance(key, Ed25519PrivateKey):
            self._context.private_key = key
            self._context.response_ids.use_key(key)
