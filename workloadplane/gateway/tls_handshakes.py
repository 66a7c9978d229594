"""TLS handshakes under way: whoever is in one has been accepted, so it is served, also by a process that drains."""

import asyncio
from time import monotonic
from weakref import WeakKeyDictionary

from workloadplane.gateway.exchange import Application
from workloadplane.gateway.server import ClientConnection


class Handshakes:
    """Those of a process. One that fails is not told of, but leaves nothing behind; ``timeout_s`` bounds each."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._until_s: WeakKeyDictionary[TlsConnection, float] = WeakKeyDictionary()

    def begin(self, connection: "TlsConnection") -> None:
        self._until_s[connection] = monotonic() + self._timeout_s

    def end(self, connection: "TlsConnection") -> None:
        self._until_s.pop(connection, None)

    def running(self, now_s: float) -> bool:
        """Whether any may still succeed (``now_s``: monotonic)."""
        return any(until_s > now_s for until_s in self._until_s.values())


class TlsConnection(ClientConnection):
    """A client's, made when it is accepted and connected when the handshake is over."""

    def __init__(self, app: Application, handshakes: Handshakes) -> None:
        super().__init__(app)
        self._handshakes = handshakes
        handshakes.begin(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._handshakes.end(self)
        super().connection_made(transport)
