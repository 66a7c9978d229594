"""What a choice is made from, and what it can be."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from workloadplane.protocol.refusal import Refusal


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """What is known of a request before it is sent anywhere.

    session:     what belongs together and shall meet the same revision; ``None`` = nothing known
    may_forward: whether another region may still be asked (a request that came from a peer is never sent on)
    tried:       replicas and clusters that have already failed this request
    """

    session: str | None
    may_forward: bool
    tried: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ReplicaFacts:
    """A replica of this cluster.

    concurrency_target: the load it is meant for, in requests in flight
    max_in_flight:      what it computes side by side; beyond it requests wait in the gateway; 0 = not known
    """

    replica_id: str
    revision_id: str
    ready: bool
    concurrency_target: float
    max_in_flight: int = 0


@dataclass(frozen=True, slots=True)
class PeerFacts:
    """Another cluster's gateway."""

    cluster_id: str
    region: str
    jurisdiction: str
    rtt_ms: float


@dataclass(frozen=True, slots=True)
class RevisionShare:
    """A revision's share of the traffic, and the clusters that hold it, the serving one of a pair first."""

    revision_id: str
    weight: int
    cluster_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One deployment as a gateway sees it now. Mappings are read, never kept.

    jurisdiction: of this cluster; empty = unknown, which no residency accepts
    residency:    jurisdictions in which a request may be served; empty = anywhere
    in_flight:    replica id -> requests in flight there from this gateway
    unavailable:  replicas and clusters that lately refused a connection or broke one
    unready:      clusters that lately said that they have no ready replica of this deployment
    lease_holds:  whether the control plane was heard recently enough to be sure that this cluster still is the
                  one that serves; it matters in ``active_passive`` alone
    """

    cluster_id: str
    jurisdiction: str
    residency: frozenset[str]
    residency_ingress: str
    posture: str
    revisions: tuple[RevisionShare, ...]
    replicas: tuple[ReplicaFacts, ...]
    peers: Mapping[str, PeerFacts]
    in_flight: Mapping[str, int]
    unavailable: Collection[str]
    unready: Collection[str]
    lease_holds: bool


@dataclass(frozen=True, slots=True)
class Policy:
    """How those that may serve are told apart.

    load_slack: replicas whose load (in flight / concurrency target) lies at most this far above the least
                loaded one count as equal, so that gateways that cannot see each other do not all pick the same
    """

    load_slack: float = 0.0


@dataclass(frozen=True, slots=True)
class ToReplica:
    """Send to this replica of this cluster."""

    replica_id: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ToPeer:
    """Send to this cluster's gateway. ``may_hold``: it said that it has none ready; ask it to wait for one."""

    cluster_id: str
    may_hold: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """No replica can take it now, but one may in this cluster. ``full``: those that are ready have all they can."""

    reasons: tuple[str, ...]
    full: bool = False


Choice = ToReplica | ToPeer | Wait | Refusal
