"""The process around it: the listening socket, the timers, and an orderly end.

Timers are few and the same for all requests: a sweep keeps every time limit (so they hold to within half a
second), a tick reports load, another writes usage, windows and the access log.
"""

import asyncio
import secrets
import socket
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from time import monotonic

import msgspec
import structlog

from workloadplane.gateway import ready
from workloadplane.gateway.accesslog import AccessLog
from workloadplane.gateway.affinity import Affinity
from workloadplane.gateway.cohort import Cohort
from workloadplane.gateway.collector import NO_COLLECTOR, Collector
from workloadplane.gateway.context import GatewayContext
from workloadplane.gateway.dispatch import Gateway
from workloadplane.gateway.draining import Draining
from workloadplane.gateway.ejections import Ejections
from workloadplane.gateway.entry import Held
from workloadplane.gateway.explain import Explained
from workloadplane.gateway.handover.neighbours import Neighbours
from workloadplane.gateway.learned import LearnedFile
from workloadplane.gateway.ledger import Ledger
from workloadplane.gateway.limits import Limits
from workloadplane.gateway.link import AgentLink
from workloadplane.gateway.local_routes import Network
from workloadplane.gateway.metrics import Counters
from workloadplane.gateway.outlet import outlet_of
from workloadplane.gateway.pool import UpstreamPool
from workloadplane.gateway.queueing import Bounds, WaitingRoom
from workloadplane.gateway.queueing.rate_limits import RateLimiter
from workloadplane.gateway.regions import TICK_S, Regions
from workloadplane.gateway.registry import Registry
from workloadplane.gateway.server import ClientConnection
from workloadplane.gateway.standby import TICK_S as STANDBY_TICK_S
from workloadplane.gateway.standby import StandbyProbes
from workloadplane.gateway.tls import Reloading, ServerTls, client_tls
from workloadplane.gateway.tls_handshakes import Handshakes, TlsConnection
from workloadplane.gateway.tracing import Tracer
from workloadplane.gateway.turns import Turns
from workloadplane.gateway.usage import WINDOW_S, TrafficBook
from workloadplane.health.ejection import EjectionPolicy
from workloadplane.protocol.spool import SpoolWriter

_log = structlog.get_logger(__name__)
_SWEEP_S = 0.5
_REPORT_S = 0.25
_FLUSH_S = 0.025  # so long a record may wait in memory, where a kill loses it
_SIBLINGS_S = 0.5
_TLS_FILES_S = 1.0
_SPANS_S = 0.5
_LAST_SPANS_S = 3.0
_LAST_LINES_S = 3.0
_HELD_RETRY_S = 1.0
_BACKLOG = 4096
_AGENT_WITHIN_S = 2.0
_AGENT_AGAIN_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How the process was started.

    take_over:     from the process that serves this state directory with this index, if there is one
    tls_certificate, tls_key: what clients are served with; ``None`` = plain
    tls_ca:        authorities that replicas and peers are held to; ``None`` = the system's
    otlp:        where spans go. ``trace_ratio``: of requests without a trace, 0 ... 1
    process_index: of ``process_count`` that share the port, and each deployment's queue among them
    """

    agent_state_dir: Path
    state_dir: Path
    host: str
    port: int
    share_port: bool
    take_over: bool = False
    process_index: int = 0
    process_count: int = 1
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_ca: Path | None = None
    otlp: Collector = NO_COLLECTOR
    trace_ratio: float = 0.0
    operator_networks: tuple[Network, ...]
    limits: Limits


class GatewayProcess:
    """Everything that lives as long as the process. ``address``: host and port, once it listens."""

    def __init__(self, options: Options) -> None:
        """Open the spool. Raises OSError when the state directory or a TLS file refuses."""
        self._options = options
        self._client_tls = client_tls(options.tls_ca) if options.tls_ca is not None else None
        self._server_tls = (
            ServerTls(options.tls_certificate, options.tls_key)
            if options.tls_certificate is not None and options.tls_key is not None
            else None
        )
        self._loop = asyncio.get_running_loop()
        self._context = _context(options, self._loop, self._client_tls, self._wake)
        self._learned = LearnedFile(options.state_dir, options.process_index)
        self._context.room.remember(self._learned.read(time.time()))
        self._stop: asyncio.Event | None = None
        self._neighbours = Neighbours(
            options.state_dir,
            options.process_index,
            options.process_count,
            self._on_succeeded,
            self._context.loads.heard,
        )
        siblings = self._neighbours if options.process_count > 1 else None
        self._gateway = Gateway(self._context, options.operator_networks, siblings)
        self._link = AgentLink(self._context, options.agent_state_dir, self._context.turns.soon_for_all)
        self._regions = Regions(self._context, self._context.turns.spill)
        self._standby = StandbyProbes(self._context, asks=options.process_index == 0)
        self._window_began_s = monotonic()
        self._spool_refused = False
        self._log_outlet = outlet_of(sys.stdout)
        self.address: tuple[str, int] | None = None

    async def serve(self, stop: asyncio.Event) -> bool:
        """Serve until ``stop`` is set, then finish what runs; whether a successor serves now.

        Raises OSError if the port can't be had.
        """
        self._stop = stop
        options, neighbours = self._options, self._neighbours
        listener = await neighbours.take_over(options.host, options.port) if options.take_over else None
        if listener is None:
            listener = _listen(options.host, options.port, share=options.share_port)
        self._link.load_from_disk()
        timers = [asyncio.create_task(self._link.run())]
        if neighbours.succeeds:
            await self._hear_agent(stop)
        if stop.is_set():
            neighbours.decline()
            listener.close()
        else:
            timers += self._begin_timers()
            await self._serve_on(listener, stop)
        await neighbours.close()
        for timer in timers:
            timer.cancel()
        await asyncio.gather(*timers, return_exceptions=True)
        await self._end()
        return neighbours.has_successor

    async def _serve_on(self, listener: socket.socket, stop: asyncio.Event) -> None:
        tls, handshakes = self._server_tls, Handshakes(self._options.limits.header_timeout_s)
        server = await self._loop.create_server(
            partial(TlsConnection, self._gateway, handshakes)
            if tls
            else partial(ClientConnection, self._gateway),
            sock=listener,
            backlog=_BACKLOG,
            ssl=tls.context if tls else None,
            ssl_handshake_timeout=self._options.limits.header_timeout_s if tls else None,
        )
        host, port = listener.getsockname()[:2]
        self.address = (host, port)
        await self._neighbours.open(self._gateway, listener)
        _log.info("gateway serves", host=host, port=port, instance=self._context.spool.gateway_instance)
        ready.tell()
        await stop.wait()
        server.close()
        self._neighbours.on_listener_closed()
        await Draining(self._context, self._gateway, self._neighbours, handshakes).run()

    def _begin_timers(self) -> "list[asyncio.Task[None]]":
        ticks: list[tuple[float, Callable[[], None]]] = [
            (_SWEEP_S, self._sweep),
            (_REPORT_S, self._link.report_load),
            (TICK_S, self._regions.tick),
            (STANDBY_TICK_S, self._standby.tick),
            (_SIBLINGS_S, self._tell_siblings),
            (_FLUSH_S, self._flush),
            (_SPANS_S, self._context.tracer.flush),
            (_TLS_FILES_S, self._look_at_tls_files),
            (_HELD_RETRY_S, self._context.turns.soon_for_all),
        ]
        timers = [asyncio.create_task(self._every(interval_s, act)) for interval_s, act in ticks]
        return [*timers, asyncio.create_task(self._keep_learned())]

    async def _hear_agent(self, stop: asyncio.Event) -> None:
        """A successor serves what only the agent's word allows (the lease), too: wait for it, but not for ever."""
        for _ in range(int(_AGENT_WITHIN_S / _AGENT_AGAIN_S)):
            if self._context.registry.plane_heard_s is not None or stop.is_set():
                return
            await asyncio.sleep(_AGENT_AGAIN_S)

    def _on_succeeded(self) -> None:
        if self._stop is not None:
            self._stop.set()

    async def _end(self) -> None:
        """Write down what is left, and let go."""
        self._regions.close()
        self._standby.close()
        self._context.pool.close()
        self._close_windows()
        self._flush()
        self._learned.write(self._context.room.learned(time.time()), time.time())
        try:
            self._context.spool.close(monotonic())
        except OSError as error:
            _log.error("usage not written", reason=str(error))
        _log.info("gateway ended")
        await self._context.tracer.close(_LAST_SPANS_S)
        await self._write_last_lines()
        self._log_outlet.close()

    async def _write_last_lines(self) -> None:
        """A slow reader is waited for, one that reads no more must not keep the process."""
        log, until_s = self._context.access_log, monotonic() + _LAST_LINES_S
        log.write_to(self._log_outlet)
        while log.waits and monotonic() < until_s:
            await asyncio.sleep(_FLUSH_S)
            log.write_to(self._log_outlet)

    async def _every(self, interval_s: float, act: Callable[[], None]) -> None:
        """A failing tick is said and does not end the others: they carry every time limit."""
        while True:
            await asyncio.sleep(interval_s)
            try:
                act()
            except Exception:
                _log.exception("tick failed")

    async def _keep_learned(self) -> None:
        """In a thread: requests must not wait for the disk."""
        while True:
            await asyncio.sleep(WINDOW_S)
            now_at = time.time()
            await asyncio.to_thread(self._learned.write, self._context.room.learned(now_at), now_at)

    def _sweep(self) -> None:
        now_s = monotonic()
        context = self._context
        context.registry.expire(now_s)
        context.pool.expire(now_s)
        context.affinity.sweep(now_s)
        for connection in list(self._gateway.connections):
            connection.on_sweep(now_s)
        for relay in list(context.relays):
            relay.on_sweep(now_s)
        context.websockets.sweep(now_s, draining=self._gateway.draining)
        if now_s - self._window_began_s >= WINDOW_S:
            self._window_began_s = now_s
            self._close_windows()

    def _tell_siblings(self) -> None:
        """Peers ask one process of this cluster, whichever it is: it answers for all."""
        context = self._context
        if context.registry.peer_facts and self._options.process_count > 1:
            told = context.loads.own(context.registry, context.room)
            self._neighbours.tell_loads(msgspec.json.encode(told))

    def _look_at_tls_files(self) -> None:
        if self._client_tls is not None:
            self._client_tls.reload_if_changed()
        if self._server_tls is not None:
            self._server_tls.reload_if_changed()

    def _close_windows(self) -> None:
        context = self._context
        context.ledger.write()
        context.traffic.close_windows(time.time(), deployments=context.registry.deployments)
        context.counters.keep_only(context.registry.deployments)
        context.room.forget(context.registry.deployments)
        context.rate_limiter.forget(monotonic())

    def _flush(self) -> None:
        self._context.ledger.write()
        self._context.access_log.write_to(self._log_outlet)
        try:
            self._context.spool.flush(monotonic())
        except OSError as error:
            if not self._spool_refused:
                _log.error("usage waits in memory: the disk refuses", reason=str(error))
            self._spool_refused = True
        else:
            self._spool_refused = False

    def _wake(self) -> None:
        self._link.report_load(always=True)


def _context(
    options: Options, loop: asyncio.AbstractEventLoop, tls: Reloading | None, wake: Callable[[], None]
) -> GatewayContext:
    """Raises OSError when the state directory refuses."""
    limits = options.limits
    instance = uuid.uuid4().hex
    spool = SpoolWriter(options.state_dir / "spool", instance)
    counters = Counters()
    policy = EjectionPolicy(back_off_s=limits.ejection_s)
    registry = Registry(ejections=Ejections(policy, counters.ejections))
    room: WaitingRoom[Held] = WaitingRoom(
        Bounds(
            requests_max=limits.hold_requests_max,
            bytes_max=limits.hold_bytes_max,
            project_requests_max=limits.hold_requests_per_project_max,
            project_bytes_max=limits.hold_bytes_per_project_max,
        )
    )
    cohort = Cohort(loop)
    context = GatewayContext(
        cohort=cohort,
        limits=limits,
        registry=registry,
        pool=UpstreamPool(
            connect_timeout_s=limits.connect_timeout_s,
            idle_timeout_s=limits.upstream_idle_timeout_s,
            idle_connections_max=limits.upstream_idle_connections_max,
            tls=tls,
            cohort=cohort,
        ),
        spool=spool,
        traffic=TrafficBook(spool, started_at=time.time()),
        counters=counters,
        room=room,
        turns=Turns(room, loop),
        rate_limiter=RateLimiter(),
        access_log=AccessLog(),
        explained=Explained(requests_max=limits.explained_requests_max, one_in=limits.explained_one_in),
        tracer=Tracer(
            options.otlp.url,
            headers=options.otlp.headers,
            ratio=options.trace_ratio,
            rng=Random(),  # noqa: S311  names spans, guards nothing
            instance=instance,
        ),
        affinity=Affinity(registry, secret=secrets.randbits(64)),
        loop=loop,
        wake=wake,
        rng=Random(instance),  # noqa: S311  spreads load, guards nothing
    )
    context.ledger = Ledger(context)
    return context


def _listen(host: str, port: int, *, share: bool) -> socket.socket:
    """A listening socket; ``share``: other gateway processes may listen on the same port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
