"""What a choice is made from, and what it can be."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from workloadplane.protocol.modalities import MODALITIES
from workloadplane.protocol.refusal import Refusal
from workloadplane.routing.places import Places
from workloadplane.routing.regions import PeerFacts, RegionPolicy, RevisionLoad

#: Why, as constants and numbers in turn: put into words only where somebody reads them.
Reasons = tuple[str | int | float, ...]
_ALL_MODALITIES = frozenset(MODALITIES)


class RequestFacts(msgspec.Struct, frozen=True, gc=False):
    """What is known of a request before it is sent anywhere.

    session:     what belongs together and shall meet the same revision; ``None`` = nothing known
    may_forward: whether another region may still be asked (a request that came from a peer is never sent on)
    tried:       replicas and clusters that have already failed this request
    prompt_bytes: how long its prompt is
    known:       (bytes, replicas) of the prompt's beginning in their caches, the longest first, each with the
                 bits of the replicas that hold at least so much (``PrefixIndex.match``)
    adapter:     the LoRA adapter that it asks for
    adapter_warm, adapter_open: bits of the replicas that have it loaded, and of those that may load another now
    modalities:  what it holds (text, image, ...), as far as is known
    known_abroad: bytes of the prompt's beginning that peers' caches hold, by cluster
    is_next:     it has waited here and it is its turn; a newcomer goes to the end of the line
    """

    session: str | None
    may_forward: bool
    tried: frozenset[str] = frozenset()
    prompt_bytes: int = 0
    known: Sequence[tuple[int, int]] = ()
    adapter: str | None = None
    modalities: frozenset[str] = frozenset()
    adapter_warm: int = 0
    adapter_open: int = -1
    known_abroad: Mapping[str, int] | None = None
    is_next: bool = False


@dataclass(frozen=True, slots=True)
class ReplicaFacts:
    """A replica of this cluster.

    concurrency_target: the load it is meant for, in requests in flight
    max_in_flight:      what it computes side by side; beyond it requests wait in the gateway; 0 = not known
    adapters:           LoRA adapters that it can load
    max_context_tokens: prompt and answer together; 0 = not known
    """

    replica_id: str
    revision_id: str
    ready: bool
    concurrency_target: float
    max_in_flight: int = 0
    adapters: frozenset[str] = frozenset()
    max_context_tokens: int = 0


#: Nobody is at this place.
VACANT = ReplicaFacts("", "", False, 1.0)


@dataclass(frozen=True, slots=True)
class RevisionShare:
    """A revision's share of the traffic, and the clusters that hold it, the serving one of a pair first.

    modalities: what its model takes; all where that is not known, so that the engine itself must say no
    """

    revision_id: str
    weight: int
    cluster_ids: tuple[str, ...]
    modalities: frozenset[str] = _ALL_MODALITIES


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One deployment as a gateway sees it now. Mappings are read, never kept.

    jurisdiction: of this cluster; empty = unknown, which no residency accepts
    residency:    jurisdictions in which a request may be served; empty = anywhere
    replicas:     by place: a replica keeps its place, and its bit, for as long as it is here
    in_flight:    replica id -> requests in flight there from this gateway
    unavailable:  replicas that lately refused a connection or broke one
    unready:      clusters that lately said that they have no ready replica of this deployment
    lease_holds:  whether the control plane was heard recently enough to be sure that this cluster still is the
                  one that serves; it matters in ``active_passive`` alone
    burden:       replica id -> load by prompts that this gateway has sent there and that are not yet answered
    pressure:     replica id -> load that its engine reports beyond what is in flight from here
    lately:       replica id -> what this gateway has sent there lately, in bytes to compute a request of its target
    here:         revision -> what this cluster tells its peers of itself
    taken_by_all: modalities that every revision takes
    all_may_serve: neither residency nor posture bars any replica here from any request
    elsewhere:    the same without the clusters that are to get nothing for now; ``None`` = there are none
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
    burden: Mapping[str, float] = field(default_factory=dict)
    pressure: Mapping[str, float] = field(default_factory=dict)
    lately: Mapping[str, float] = field(default_factory=dict)
    here: Mapping[str, RevisionLoad] = field(default_factory=dict)
    elsewhere: "Snapshot | None" = None
    places: Places = field(init=False, repr=False, compare=False)
    taken_by_all: frozenset[str] = field(init=False, repr=False, compare=False)
    all_may_serve: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "places", Places.of(self.replicas))
        taken = _ALL_MODALITIES.intersection(*(share.modalities for share in self.revisions))
        object.__setattr__(self, "taken_by_all", taken)
        bars = self.residency or self.posture == "active_passive"
        object.__setattr__(self, "all_may_serve", not bars)


@dataclass(frozen=True, slots=True)
class Policy:
    """How those that may serve are told apart. Loads are shares of a replica's concurrency target.

    load_slack: replicas whose load (in flight / concurrency target) lies at most this far above the least
                loaded one count as equal, so that gateways that cannot see each other do not all pick the same
    kv_usage_free, kv_pressure: a KV cache fuller than this weighs up to this load: requests there will be put back
    bytes_per_load: so many bytes of prompts that wait to be computed weigh as much as a replica's whole target load
    anew_bytes_per_load: so many bytes that this request must have computed, as the replica does not know them, weigh
                as much: more than those that wait, for they also drive out of a cache what others know
    hot_excess, hot_slack: what a replica knows counts for nothing while its load lies above the mean of all by
                this share and this load: affinity never makes a hot replica
    balance, balance_free: a replica that was lately sent more to compute than the mean, by more than this share,
                weighs this load for each further mean; what is in flight cannot tell while little is
    balance_bytes: a mean below this, in bytes for each request of the target, counts as this
    adapter_spread_load: an adapter is loaded on a further replica only when those that have it are this busy
    adapter_cost: loading an adapter weighs as much as this load
    regions:      when a peer is worth the way
    """

    load_slack: float = 0.0
    kv_usage_free: float = 0.9
    kv_pressure: float = 1.0
    bytes_per_load: float = 32_768.0
    anew_bytes_per_load: float = 8_192.0
    hot_excess: float = 0.25
    hot_slack: float = 1.0
    balance: float = 2.0
    balance_free: float = 0.0
    balance_bytes: float = 4_096.0
    adapter_spread_load: float = 0.75
    adapter_cost: float = 0.25
    regions: RegionPolicy = field(default_factory=RegionPolicy)


class ToReplica(msgspec.Struct, frozen=True, gc=False):
    """Send to this replica of this cluster. ``known_bytes``: of the prompt, in its cache as far as is known."""

    replica_id: str
    reasons: Reasons
    known_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ToPeer:
    """Send to this cluster's gateway.

    may_hold:    ask it to wait for a replica: it has none that could take the request now
    revision_id: for which it was chosen; empty = none in particular
    """

    cluster_id: str
    may_hold: bool
    reasons: Reasons
    revision_id: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """No replica can take it now, but one may in this cluster.

    full:   those that are ready have all they can
    places: of them, as bits, those that would get the request if they had room
    """

    reasons: Reasons
    full: bool = False
    places: int = 0


Choice = ToReplica | ToPeer | Wait | Refusal
