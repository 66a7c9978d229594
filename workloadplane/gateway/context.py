"""What all requests of a process share."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from workloadplane.gateway.accesslog import AccessLog
from workloadplane.gateway.affinity import Affinity
from workloadplane.gateway.cohort import Cohort
from workloadplane.gateway.entry import Held
from workloadplane.gateway.explain import Explained
from workloadplane.gateway.limits import Limits
from workloadplane.gateway.loads import Loads
from workloadplane.gateway.metrics import Counters
from workloadplane.gateway.pool import UpstreamPool
from workloadplane.gateway.preempting import Preempting
from workloadplane.gateway.queueing import WaitingRoom
from workloadplane.gateway.queueing.rate_limits import RateLimiter
from workloadplane.gateway.registry import Registry
from workloadplane.gateway.stored import ResponseIds
from workloadplane.gateway.tracing import Tracer
from workloadplane.gateway.turns import Turns
from workloadplane.gateway.usage import RevisionTraffic, TrafficBook
from workloadplane.gateway.vantage import Vantage
from workloadplane.gateway.ways import Ways
from workloadplane.gateway.websocket.sessions import Sessions
from workloadplane.health.domain import RampPolicy
from workloadplane.health.outlook import OutlookPolicy
from workloadplane.protocol.routing import Route
from workloadplane.protocol.spool import SpoolWriter

if TYPE_CHECKING:
    from workloadplane.gateway.ledger import Ledger
    from workloadplane.gateway.relay import Relay


@dataclass(slots=True, kw_only=True)
class GatewayContext:
    """One per process.

    wake:        tell the agent at once that a request found no replica
    sessions_at: WebSocket sessions by replica
    resume_bytes: bodies kept while their streams run
    ledger:      given by whoever makes the context
    private_key: signs what we tell peers; ``None`` until the agent has enrolled, and then no peer is asked
    """

    limits: Limits
    registry: Registry
    pool: UpstreamPool
    spool: SpoolWriter
    traffic: TrafficBook
    counters: Counters
    room: WaitingRoom[Held]
    turns: Turns
    rate_limiter: RateLimiter
    access_log: AccessLog
    loop: asyncio.AbstractEventLoop
    wake: Callable[[], None]
    rng: Random
    affinity: Affinity
    explained: Explained
    tracer: Tracer
    cohort: Cohort
    private_key: Ed25519PrivateKey | None = None
    loads: Loads = field(default_factory=Loads)
    vantage: Vantage = field(init=False)
    ways: Ways = field(default_factory=Ways)
    response_ids: ResponseIds = field(default_factory=ResponseIds)
    relays: "set[Relay]" = field(default_factory=set)
    preempting: Preempting = field(init=False)
    websockets: Sessions = field(init=False)
    sessions_at: Counter[str] = field(default_factory=Counter)
    requests_met: int = 0
    resume_bytes: int = 0
    request_id_begin: str = field(init=False)
    ledger: "Ledger" = field(init=False)

    def __post_init__(self) -> None:
        self.preempting = Preempting(self.room)
        self.websockets = Sessions(self.limits)
        ramp = RampPolicy(rung_s=self.limits.ramp_rung_s)
        self.vantage = Vantage(self.registry, OutlookPolicy(ramp=ramp), self.counters.region_changes)
        self.request_id_begin = f"req-{self.spool.gateway_instance[:16]}-"

    def next_request_id(self) -> str:
        """Unique among all gateways: this process's instance, and a count."""
        self.requests_met += 1
        return f"{self.request_id_begin}{self.requests_met:x}"

    def waiting_traffic(self, route: Route) -> RevisionTraffic:
        """Under which revision a request waits: the one that this cluster would most likely start."""
        here = [r for r in route.revisions if self.registry.cluster_id in r.cluster_ids]
        revision = max(here or route.revisions, key=lambda r: r.weight, default=None)
        return self.traffic.of(route.deployment_id, revision.revision_id if revision else "")
