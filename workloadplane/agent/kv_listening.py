"""Hears what one engine publishes of its KV cache, for as long as its replica lives, and keeps the sums."""

import asyncio

import structlog
import zmq
import zmq.asyncio

from workloadplane.engines.kv_events import KvCounts

_log = structlog.get_logger(__name__)
_QUEUE_MESSAGES_MAX = 10_000


async def listen(address: str, counts: KvCounts) -> None:
    """Count until cancelled. ZeroMQ itself connects again when an engine is late or comes back."""
    context = zmq.asyncio.Context.instance()
    socket = context.socket(zmq.SUB)
    try:
        socket.setsockopt(zmq.RCVHWM, _QUEUE_MESSAGES_MAX)
        socket.setsockopt(zmq.LINGER, 0)
        socket.subscribe(b"")
        socket.connect(address)
        while True:
            parts = await socket.recv_multipart()
            if len(parts) == 3 and len(parts[1]) == 8:
                counts.take(int.from_bytes(parts[1]), parts[2])
            else:
                _log.warning("not a KV event", address=address, parts=len(parts))
                await asyncio.sleep(0)
    finally:
        socket.close()
