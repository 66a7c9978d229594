"""Between an agent and the gateways of its cluster: newline-framed JSON over the agent's unix socket.

A gateway connects and says ``Hello``; the agent sends at once, and again whenever one changes, the tables
and the ``EndpointSet``; the gateway answers each with an ``Acknowledgement`` of what it then has in force.
A replica counts as drained at the gateway when every connected gateway has acknowledged an endpoint
generation without it and reports nothing in flight there. An acknowledged generation above the one that was
sent means that the sender is older than what the gateway holds: it must go on from above that. Usage and
metric windows do not travel here but through the spool (``spool.py``). The socket is where
``protocol.socketpath.agent_socket`` says.
"""

import msgspec

from workloadplane.protocol.observed import PeerStanding
from workloadplane.protocol.tables import Table

MAX_LINE_BYTES = 64 * 1024 * 1024


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A replica that gateways may use.

    state:         ``ready`` takes requests, ``draining`` finishes those it has
    max_in_flight: requests that the engine computes side by side; what a gateway has beyond them waits there, where
                   the order can be fair; 0 = not known, no bound
    max_context_tokens: prompt and answer together; 0 = not known
    adapters:      LoRA adapters that it can load: clients ask for ``<deployment>:<adapter>``
    adapter_slots: how many of them it holds loaded at once
    tls, tls_name: whether it speaks TLS, and the name that its certificate must carry; empty = the host's
    hand_over:     it is about to vanish: what runs there goes on elsewhere as soon as there is room
    """

    replica_id: str
    deployment_id: str
    revision_id: str
    revision: int
    pool_id: str
    engine: str
    host: str
    port: int
    engine_key: str
    served_model: str
    concurrency_target: float
    state: str
    max_in_flight: int = 0
    max_context_tokens: int = 0
    adapters: tuple[str, ...] = ()
    adapter_slots: int = 0
    tls: bool = False
    tls_name: str = ""
    hand_over: bool = False


class EndpointSet(msgspec.Struct, frozen=True, kw_only=True, tag="endpoints"):
    """All replicas of this cluster that gateways may know of. Also kept on the agent's disk (0600)."""

    endpoint_generation: int
    endpoints: tuple[Endpoint, ...]


class TablePush(msgspec.Struct, frozen=True, kw_only=True, tag="table"):
    """A whole table; the gateway verifies it again itself."""

    kind: str
    table: Table


class Identity(msgspec.Struct, frozen=True, kw_only=True, tag="identity"):
    """Who this cluster is and whose signatures count; the private key is read from the agent's state directory."""

    cluster_id: str
    cluster_name: str
    signing_keys: dict[str, bytes]


class PlaneHeard(msgspec.Struct, frozen=True, kw_only=True, tag="plane_heard"):
    """When the agent asked what the control plane last answered, on this machine's monotonic clock, in seconds.

    What one cluster alone may serve (``active_passive``) is served only while this is recent: the lease. A gateway
    that holds an older routing table than ``routing_generation`` passes it over: the answer may have brought the news
    that another cluster serves.
    """

    at_monotonic_s: float
    routing_generation: int = 0


class EngineLoad(msgspec.Struct, frozen=True, kw_only=True):
    """What a replica's engine said of itself, read at ``at_monotonic_s`` on this machine's monotonic clock.

    running, waiting: requests, whoever sent them
    kv_cache_usage:   in [0, 1]; ``None`` = it does not tell
    kv_capacity_tokens: what its KV cache holds; 0 = it does not tell
    kv_stored_tokens_total: what has been put into it since it was first heard; ``None`` = it does not publish that
    kv_clears:        how often all in it was lost, or may have been
    """

    replica_id: str
    at_monotonic_s: float
    running: int
    waiting: int
    kv_cache_usage: float | None = None
    kv_capacity_tokens: int = 0
    kv_stored_tokens_total: int | None = None
    kv_clears: int = 0


class EngineLoads(msgspec.Struct, frozen=True, kw_only=True, tag="engine_loads"):
    """All replicas' that were read lately; sent with every pass of the agent."""

    loads: tuple[EngineLoad, ...]


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """A gateway's first line."""

    gateway_instance: str
    pid: int


class Acknowledgement(msgspec.Struct, frozen=True, kw_only=True, tag="acknowledgement"):
    """``kind``: ``endpoints`` or a table's kind; ``generation``: the one now in force at the gateway."""

    kind: str
    generation: int


class DeploymentLoad(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway has at hand for one deployment revision.

    waiting:     requests that are held, and those that were turned away since the last report because no replica would
                 have been ready in time
    *_total:     of what has finished since the gateway process began; a lower one means that it began anew
    ttft_counts: first tokens since then by bucket of ``usage.LATENCY_BUCKETS_S`` and the open one; empty = not told
    """

    deployment_id: str
    revision_id: str
    in_flight: int
    waiting: int
    requests_total: int = 0
    input_tokens_total: int = 0
    output_tokens_total: int = 0
    ttft_counts: tuple[int, ...] = ()


class LoadReport(msgspec.Struct, frozen=True, kw_only=True, tag="load"):
    """Every 250 ms while something runs, and at once when a request finds no replica (that is the wake).

    ejected: replicas that this gateway avoids, and why: unreachable | broken | failed | stuck
    peers:   other clusters as it sees them; a change of one is reported at the next 250 ms
    """

    gateway_instance: str
    deployments: tuple[DeploymentLoad, ...]
    in_flight_by_replica: dict[str, int]
    ejected: dict[str, str] = {}
    peers: tuple[PeerStanding, ...] = ()


FromAgent = EndpointSet | TablePush | Identity | PlaneHeard | EngineLoads
FromGateway = Hello | Acknowledgement | LoadReport
