"""``python -m workloadplane.engines.simulator --port 8000``: one simulated replica.

Prints one JSON object per line on its standard output; ``{"event": "ready", "port": ...}`` when it takes
requests. Ends with 0 after SIGTERM or SIGINT, once running requests are finished or ``--shutdown-timeout-s`` is over.
"""

import asyncio
import gc
import signal
import sys
import time
from collections.abc import Sequence

import msgspec
import uvloop

from workloadplane.engines.simulator.connection import Connection, Connections
from workloadplane.engines.simulator.routes import Routes
from workloadplane.engines.simulator.serving import Serving
from workloadplane.engines.simulator.settings import Settings, parse_settings

_LEAST_FLUSH_S = 0.1


def main(argv: Sequence[str] | None = None) -> int:
    """Run until told to stop."""
    settings = parse_settings(sys.argv[1:] if argv is None else argv)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(serve(settings))


async def serve(settings: Settings) -> int:
    """Start as slowly as told, serve, and drain on SIGTERM."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    for event, duration_s in (
        ("weights_loaded", settings.weight_load_s),
        ("started", settings.engine_start_s),
    ):
        if duration_s > 0 and await _is_set_within(stopping, duration_s):
            return 0
        if duration_s > 0:
            _log(event, seconds=duration_s)
    serving = Serving(settings, loop)
    if settings.kv_events:
        from workloadplane.engines.simulator.kv_publishing import KvPublisher  # ZeroMQ only for those who ask

        serving.publish_kv_events(KvPublisher(settings.kv_events, block_tokens=settings.model.block_tokens))
    routes = Routes(serving)
    connections = Connections()
    try:
        server = await loop.create_server(
            lambda: Connection(routes.dispatch, connections), settings.host, settings.port, backlog=1024
        )
    except OSError as error:
        sys.stderr.write(f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}\n")
        return 1
    gc.freeze()
    _log("ready", port=server.sockets[0].getsockname()[1], served_model=settings.served_model)
    await stopping.wait()
    server.close()
    await _drain(serving, connections, loop.time() + settings.shutdown_timeout_s)
    _log("stopped")
    return 0


async def _drain(serving: Serving, connections: Connections, deadline_s: float) -> None:
    """Let answers finish, and slow clients fetch them, until the deadline; then cut."""
    loop = asyncio.get_running_loop()
    serving.draining = True
    _log("draining", running=serving.batch.running, waiting=serving.batch.waiting)
    connections.close(idle_only=True)
    if not await _is_set_within(serving.idle, deadline_s - loop.time()):
        serving.abort_all()
    connections.close(idle_only=False)
    # Closing flushes what is held; even without patience an error or a cut must reach the socket.
    await _is_set_within(connections.none_open, max(deadline_s - loop.time(), _LEAST_FLUSH_S))


async def _is_set_within(event: asyncio.Event, timeout_s: float) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _log(event: str, **facts: object) -> None:
    line = msgspec.json.encode({"event": event, "at": round(time.time(), 3), **facts})
    sys.stdout.write(line.decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
