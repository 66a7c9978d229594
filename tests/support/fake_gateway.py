"""A gateway's end of the agent's socket, by hand: hears everything, says what a test tells it to."""

import contextlib
import socket
import threading
import time
from pathlib import Path

import msgspec

from workloadplane.protocol.local import (
    Acknowledgement,
    DeploymentLoad,
    EndpointSet,
    FromAgent,
    Hello,
    Identity,
    LoadReport,
    TablePush,
)
from workloadplane.protocol.observed import PeerStanding
from workloadplane.protocol.socketpath import agent_socket


class FakeGateway:
    """Connects at once; acknowledges what it hears while ``acknowledges`` is set."""

    def __init__(
        self, agent_state_dir: Path, instance: str = "gateway-1", *, acknowledges: bool = True
    ) -> None:
        self.instance = instance
        self.acknowledges = acknowledges
        self.endpoints: EndpointSet | None = None
        self.identity: Identity | None = None
        self.tables: dict[str, TablePush] = {}
        self.heard_at: list[tuple[float, EndpointSet]] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(agent_socket(agent_state_dir)))
        self._say(Hello(gateway_instance=instance, pid=1))
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()

    def __enter__(self) -> "FakeGateway":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def ready(self) -> list[str]:
        """Ids of the replicas that may be used."""
        return (
            [e.replica_id for e in self.endpoints.endpoints if e.state == "ready"] if self.endpoints else []
        )

    def report(
        self,
        *loads: tuple[str, str, int, int],
        in_flight_by_replica: dict[str, int] | None = None,
        ejected: dict[str, str] | None = None,
        peers: tuple[PeerStanding, ...] = (),
    ) -> None:
        """Each load: deployment, revision, in flight, waiting."""
        deployments = tuple(
            DeploymentLoad(deployment_id=d, revision_id=r, in_flight=i, waiting=w) for d, r, i, w in loads
        )
        self._say(
            LoadReport(
                gateway_instance=self.instance,
                deployments=deployments,
                in_flight_by_replica=in_flight_by_replica or {},
                ejected=ejected or {},
                peers=peers,
            )
        )

    def report_finished(self, *loads: DeploymentLoad) -> None:
        """What runs, and all that has finished so far."""
        self._say(LoadReport(gateway_instance=self.instance, deployments=loads, in_flight_by_replica={}))

    def acknowledge(self) -> None:
        """Acknowledge the endpoints that were heard last."""
        assert self.endpoints is not None
        self._say(Acknowledgement(kind="endpoints", generation=self.endpoints.endpoint_generation))

    def acknowledge_routing(self, generation: int) -> None:
        """Say which routing table is in force here."""
        self._say(Acknowledgement(kind="routing", generation=generation))

    def _say(self, message: msgspec.Struct) -> None:
        self._socket.sendall(msgspec.json.encode(message) + b"\n")

    def _listen(self) -> None:
        try:
            with self._socket.makefile("rb") as lines:
                for line in lines:
                    self._hear(msgspec.json.decode(line, type=FromAgent))
        except (OSError, ValueError):
            return

    def _hear(self, message: EndpointSet | TablePush | Identity) -> None:
        if isinstance(message, EndpointSet):
            self.endpoints = message
            self.heard_at.append((time.monotonic(), message))
            if self.acknowledges:
                self.acknowledge()
        elif isinstance(message, TablePush):
            self.tables[message.kind] = message
        else:
            self.identity = message
