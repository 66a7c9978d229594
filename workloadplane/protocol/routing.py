"""RoutingTable and KeySet: where a cluster's gateways may send, and whom they let in. Made by the control plane.

``routing``: ``RoutingHeader`` and one ``Route`` per deployment, keyed by the deployment's id.
``keyset``:  ``KeySetHeader`` and one ``ApiKeyEntry`` per accepted key, keyed by the key's id.
"""

import msgspec

from workloadplane.protocol.refusal import Refusal


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Another cluster's gateway. ``public_key`` (raw Ed25519) proves what that cluster sends us."""

    cluster_id: str
    cluster_name: str
    region: str
    jurisdiction: str
    url: str
    public_key: bytes
    rtt_ms: float


class RoutingHeader(msgspec.Struct, frozen=True, kw_only=True):
    """Facts of this cluster and its peers. TTLs count from when the control plane was last heard, on a monotonic clock.

    soft_ttl_s: after it a gateway says that it may be out of date, and goes on
    hard_ttl_s: after it the serving cluster of an ``active_passive`` deployment stops serving it: the lease
    forwarding_ttl_s: after it a gateway serves its own region alone: nobody vouches any more for whoever has a peer's
                address by now. ``None`` = no end
    """

    cluster_id: str
    cluster_name: str
    region: str
    jurisdiction: str
    gateway_url: str  # this cluster's own, as clients reach it; empty while it is not known
    peers: tuple[Peer, ...]
    soft_ttl_s: float
    hard_ttl_s: float
    forwarding_ttl_s: float | None = None


class RevisionRoute(msgspec.Struct, frozen=True, kw_only=True):
    """A revision's share of a deployment's traffic and the clusters that hold replicas of it.

    modalities: what its model takes (``protocol.modalities``); empty = not told
    """

    revision_id: str
    revision: int
    weight: int
    cluster_ids: tuple[str, ...]
    modalities: tuple[str, ...] = ()


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """How requests for one deployment travel.

    residency:         jurisdictions in which a request may be served; empty = anywhere
    residency_ingress: what a gateway outside ``residency`` does: ``forward`` to one inside, or ``refuse``
    placed:            False: it runs nowhere, though it exists; ``revisions`` is empty
    refusal:           why no cluster serves it now; then no revision names one
    adapters:          LoRA adapters, asked for as ``<deployment>:<adapter>``
    resume:            whether a stream whose replica dies is continued on another one
    withheld:          clusters that get none of its traffic for now (a drill), as far as others can serve it
    """

    deployment_id: str
    deployment: str
    project_id: str
    model: str
    residency: tuple[str, ...]
    residency_ingress: str
    priority: int
    posture: str  # active_active | active_passive
    concurrency_target: float
    scale_to_zero: bool
    revisions: tuple[RevisionRoute, ...]
    created_at: int  # seconds since 1970, for /v1/models
    placed: bool = True
    refusal: Refusal | None = None
    resume: bool = True
    adapters: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()


class KeySetHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The public keys with which the control plane signs, by key id (raw Ed25519), so that keys can rotate."""

    signing_keys: dict[str, bytes]


class RateLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a key, or all keys of a project together, may use at one gateway process; 0 = no limit."""

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    concurrent_requests: int = 0


class ApiKeyEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An API key that may be used here: only its SHA-256 travels.

    max_priority: ``low`` | ``normal`` | ``high``: the class that its requests may ask for at most
    """

    api_key_id: str
    sha256: bytes
    project_id: str
    scopes: tuple[str, ...]
    expires_at: float | None  # seconds since 1970
    limits: RateLimits | None = None
    project_limits: RateLimits | None = None
    max_priority: str = "normal"
