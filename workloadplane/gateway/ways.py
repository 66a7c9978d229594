"""The way to each replica: everything that is the same for all requests sent there, made once."""

from dataclasses import dataclass

from workloadplane.gateway import heads
from workloadplane.gateway.heads import Served
from workloadplane.gateway.registry import Registry
from workloadplane.gateway.upstream import Target
from workloadplane.protocol.local import Endpoint
from workloadplane.protocol.routing import RoutingHeader


@dataclass(frozen=True, slots=True)
class Way:
    """To one replica. ``lines``: the constant part of a request's head (``heads.constant_lines``)."""

    endpoint: Endpoint
    header: RoutingHeader | None
    target: Target
    lines: bytes
    served: Served


class Ways:
    """By replica. A way is made anew when the agent has told another endpoint or the table has changed."""

    def __init__(self) -> None:
        self._ways: dict[str, Way] = {}

    def to(self, registry: Registry, replica_id: str) -> Way:
        """The way to a replica that is among the registry's endpoints."""
        endpoint, header = registry.endpoints[replica_id], registry.header
        way = self._ways.get(replica_id)
        if way is None or way.endpoint is not endpoint or way.header is not header:
            if len(self._ways) > 2 * len(registry.endpoints):
                self._ways.clear()  # of replicas that have gone
            way = self._ways[replica_id] = _make(registry, endpoint)
        return way


def _make(registry: Registry, endpoint: Endpoint) -> Way:
    target = Target(endpoint.host, endpoint.port, endpoint.tls, endpoint.tls_name)
    served = Served(
        cluster_id=registry.cluster_id,
        region=registry.region,
        replica_id=endpoint.replica_id,
        revision_id=endpoint.revision_id,
        revision=endpoint.revision,
        pool_id=endpoint.pool_id,
    )
    served.client_lines = heads.served_lines(served, to_peer=False)
    lines = heads.constant_lines(target.authority, b"Bearer " + endpoint.engine_key.encode())
    return Way(endpoint, registry.header, target, lines, served)
