"""A client's socket: what is written to it, whether it is read, and whether somebody is still there."""

import asyncio
import select
from typing import cast

_WRITE_BUFFER_BYTES = 256 * 1024


class ClientSocket(asyncio.Protocol):
    """The transport of one client connection, as long as there is one."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._reading_paused = False
        self.remote = ""

    def _open(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)  # uvloop's is one without deriving
        transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        peer = transport.get_extra_info("peername")
        self.remote = peer[0] if isinstance(peer, tuple) else ""

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def write_eof(self) -> None:
        """Nothing more will be sent; what comes is still read."""
        if self._transport is not None and not self._transport.is_closing():
            if self._transport.can_write_eof():
                self._transport.write_eof()
            else:
                self._transport.close()

    def pause(self) -> None:
        """Read nothing for now."""
        if self._transport is not None and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self._transport is not None and self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close without a further byte."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def is_tls(self) -> bool:
        return self._transport is not None and self._transport.get_extra_info("ssl_object") is not None

    def fileno(self) -> int:
        """The socket's descriptor. Raises OSError when it is closed."""
        if self._transport is None:
            raise OSError("the client has gone")
        number: int = self._transport.get_extra_info("socket").fileno()
        return number

    @property
    def unsent_bytes(self) -> int:
        """What waits here for the client to read."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def _is_broken(self) -> bool:
        """Whether the other side is known to have gone: with nothing asked for, that is all that a poll tells."""
        poll = select.poll()
        poll.register(self.fileno(), 0)
        return bool(poll.poll(0))
