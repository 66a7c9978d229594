"""One line of JSON a request, on standard output: who asked what of whom and how it went; never what was said.

Lines are gathered and written together; when the reader of standard output does not keep up, lines are dropped
and counted, for a log must not hold up the traffic that it describes.
"""

import msgspec

from workloadplane.gateway.outlet import Outlet


class TunnelFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What went through a WebSocket, as its frame headers tell: ``in`` from the client, ``out`` to it."""

    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class AccessLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """A finished request. No prompt, no answer, no key.

    priority:    its class, if it is not the usual one
    known_share: of its prompt, believed to be in the cache of the replica that it was sent to
    resumed:     its stream broke and went on elsewhere
    preempted:   how often its stream gave its seat to another tenant's request
    """

    time: float
    request_id: str
    route: str
    status: int
    outcome: str
    project_id: str
    api_key_id: str
    deployment: str
    replica_id: str | None
    served_region: str | None
    reasons: tuple[str | int | float, ...]
    attempts: int
    queue_s: float
    ttft_s: float | None
    duration_s: float
    input_tokens: int
    output_tokens: int
    tunnel: TunnelFigures | None = None
    cached_tokens: int = 0
    trace_id: str | None = None
    priority: str = "normal"
    adapter: str | None = None
    known_share: float = 0.0
    resumed: bool = False
    preempted: int = 0


_encoder = msgspec.json.Encoder()
_BUFFER_BYTES_MAX = 4 * 1024 * 1024


class AccessLog:
    """Lines of this process, waiting to be written."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.dropped_lines = 0

    def add(self, line: AccessLine) -> None:
        if len(self._buffer) > _BUFFER_BYTES_MAX:
            self.dropped_lines += 1
            return
        buffer = self._buffer
        _encoder.encode_into(line, buffer, len(buffer))
        buffer += b"\n"

    @property
    def waits(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._buffer)

    def write_to(self, outlet: Outlet) -> None:
        """Write what fits now; the rest waits."""
        buffer = self._buffer
        if buffer:
            try:
                del buffer[: outlet.write(buffer)]
            except BlockingIOError:
                return
            except OSError:
                buffer.clear()  # nobody will read it any more

    def take(self) -> bytes:
        """What is to be written now."""
        taken = bytes(self._buffer)
        self._buffer.clear()
        return taken
