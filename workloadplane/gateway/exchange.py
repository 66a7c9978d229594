"""What a client's connection and those that answer on it ask of one another."""

from typing import TYPE_CHECKING, Protocol

from workloadplane.gateway.cohort import Cohort
from workloadplane.gateway.errors import Failure
from workloadplane.gateway.limits import Limits
from workloadplane.gateway.reader import Request

if TYPE_CHECKING:
    from workloadplane.gateway.server import ClientConnection


class Exchange(Protocol):
    """Who answers a request over time."""

    def on_client_gone(self) -> None:
        """The client closed its connection before the answer was complete."""

    def on_client_full(self) -> None:
        """The client reads too slowly: send nothing more for now."""

    def on_client_ready(self) -> None:
        """The client reads again."""

    def on_client_eof(self) -> None:
        """The client has stopped sending; whether it still reads shows when it is sent something."""


class TunnelExchange(Exchange, Protocol):
    """Who answers a request with a tunnel."""

    def on_client_data(self, data: bytes) -> None:
        """Bytes that came after the request."""

    def on_tunnel_eof(self) -> None:
        """The client will send no more; what is still to be sent can be."""


class Application(Protocol):
    """What a connection asks of the process."""

    limits: Limits
    connections: "set[ClientConnection]"
    body_bytes: int
    draining: bool
    cohort: Cohort

    def admit(self, request: Request) -> Failure | None:
        """Judge a request by its headers alone, so that a body nobody wants is not kept."""

    def handle(self, connection: "ClientConnection", request: Request) -> None:
        """Answer a request, now or over time. Must answer ``request.failure`` if there is one."""
