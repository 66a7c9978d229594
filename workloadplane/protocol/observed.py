"""ObservedState: what one cluster really runs. Made by the agent, stored by the control plane.

Sent as a delta: replicas that changed and ids that are gone. ``state_hash`` is over the whole state after the
delta (``observed_hash``); when the control plane's own differs it asks once for the full state.
"""

import hashlib
from collections.abc import Mapping

import msgspec

from workloadplane.protocol.refusal import Refusal


class ColdStart(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of each phase of a replica's start; ``None`` = that phase was not passed (never 0 for it)."""

    gpu_procurement_s: float | None = None
    image_pull_s: float | None = None
    weight_load_s: float | None = None
    engine_start_s: float | None = None


class ObservedReplica(msgspec.Struct, frozen=True, kw_only=True):
    """One replica. ``engine`` is what truly runs, also where the cluster substitutes an engine.

    state: ``pending`` | ``starting`` | ``ready`` | ``unhealthy`` | ``draining`` | ``stopped`` | ``failed``
    """

    replica_id: str
    assignment_id: str
    deployment_id: str
    revision_id: str
    revision: int
    pool_id: str
    engine: str
    runtime_ref: str
    state: str
    phase: str | None  # while starting: gpu_procurement | image_pull | weight_load | engine_start
    reason: str
    message: str
    created_at: float  # seconds since 1970
    ready_at: float | None
    stopped_at: float | None
    cold_start: ColdStart
    restarts: int


class ReplicaLoad(msgspec.Struct, frozen=True, kw_only=True):
    """A replica's load when last scraped. Changes all the time, so it is no part of ``state_hash``."""

    replica_id: str
    running: int
    waiting: int
    kv_cache_usage: float | None
    prompt_tokens_total: int
    generation_tokens_total: int


class ScalingDecision(msgspec.Struct, frozen=True, kw_only=True):
    """How many replicas of a revision an agent began to want, and why. Stored once by revision and time.

    decided_at: seconds since 1970
    ready:      replicas that served then
    at_hand:    requests in flight and waiting then; None = nobody could tell
    """

    deployment_id: str
    revision_id: str
    decided_at: float
    policy: str
    replicas: int
    ready: int
    at_hand: float | None
    reasons: tuple[str, ...]


class ObservedCondition(msgspec.Struct, frozen=True, kw_only=True):
    """The agent's judgement about one assignment, in the manner of Kubernetes' conditions."""

    assignment_id: str
    type: str
    status: bool
    reason: str
    message: str
    refusal: Refusal | None = None


class PeerStanding(msgspec.Struct, frozen=True, kw_only=True):
    """How another cluster looks from the gateways of this one.

    state:       ``healthy`` | ``suspect`` | ``ejected`` | ``probation``
    has_lost:    they have lost it from sight, whether others agree or not
    state_for_s: for how long it has been so, when this was told; ``None`` = not known. It is no news by itself.
    """

    cluster_id: str
    state: str
    has_lost: bool
    cause: str = ""
    state_for_s: float | None = None


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """Capacity of this cluster that will vanish, or has: its provider takes it back.

    pool:        its name in this cluster
    node:        None = the whole pool
    deadline_at: seconds since 1970, by the clock of the machine that read it
    provider:    aws | gcp | azure | file, or what a notice file says
    """

    pool: str
    node: str | None
    deadline_at: float
    reason: str
    provider: str


class ObservedNode(msgspec.Struct, frozen=True, kw_only=True):
    """One machine of a pool. ``cordoned``: it takes no new replica; ``replicas``: ids of those that hold GPUs of it."""

    name: str
    pool_id: str
    gpus: int
    cordoned: bool
    replicas: tuple[str, ...]


class ClusterFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent says of its cluster.

    gateway_generations: table kind -> a generation that no gateway which may still serve is behind. An agent that
                         does not say it lets whoever waits for its gateways wait for its lease instead.
    gateways_connected:  gateways of this cluster that its agent has, those that left a moment ago included
    peers:               other clusters as its gateways see them: of several gateways, as the one that sees it best;
                         those that none of them watches are left out
    notices:             capacity that vanishes, until the source of a notice says that it is there again
    nodes:               machines of its pools; of very many, those that hold something first
    state_unkept:        why its disk refuses the agent's state, which is in force all the same; empty while it does not
    """

    agent_version: str
    gateway_url: str
    engine_substitutions: dict[str, str]
    free_memory_bytes: int | None
    held_generations: dict[str, int]  # table kind -> generation in use
    gateway_generations: dict[str, int] = {}
    gateways_connected: int | None = None
    peers: tuple[PeerStanding, ...] = ()
    notices: tuple[Notice, ...] = ()
    nodes: tuple[ObservedNode, ...] = ()
    state_unkept: str = ""


class ObservedDelta(msgspec.Struct, frozen=True, kw_only=True):
    """The change of a cluster's state since the observed generation that the control plane acknowledged."""

    observed_generation: int
    full: bool
    replicas: tuple[ObservedReplica, ...]
    gone: tuple[str, ...]
    conditions: tuple[ObservedCondition, ...]
    facts: ClusterFacts
    state_hash: str


def observed_hash(replicas: Mapping[str, ObservedReplica]) -> str:
    """SHA-256 over all replicas in the order of their ids: equal on both sides, or a full state is sent."""
    hasher = hashlib.sha256()
    encoder = msgspec.json.Encoder(order="deterministic")
    for replica_id in sorted(replicas):
        hasher.update(encoder.encode(replicas[replica_id]))
        hasher.update(b"\n")
    return hasher.hexdigest()
