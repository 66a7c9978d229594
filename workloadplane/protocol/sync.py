"""Enrolment and sync: the agent's only calls home.

``POST /agent/v1/enrol`` once, with a one-time token; then only ``POST /agent/v1/sync``, a long poll.
Every sync is signed with the key the agent made at enrolment: headers ``x-meridian-cluster`` (its id) and
``x-meridian-signature`` (base64 Ed25519 over ``sync_signed_bytes``). ``sequence`` rises within an instance, so a
replayed request is refused without trusting a clock.
"""

import msgspec

from workloadplane.protocol.logs import LogWanted
from workloadplane.protocol.observed import ObservedDelta, ReplicaLoad, ScalingDecision
from workloadplane.protocol.refusal import Refusal
from workloadplane.protocol.tables import TableUpdate
from workloadplane.protocol.usage import MetricWindow, UsageRecord

SYNC_PATH = "/agent/v1/sync"
ENROL_PATH = "/agent/v1/enrol"
MAX_SYNC_BYTES = 8 * 1024 * 1024


class EnrolRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Binds a public key made by the agent to the cluster for which the token was issued."""

    wire_version: int
    token: str
    public_key: bytes  # raw Ed25519, 32 bytes
    instance_id: str
    gateway_url: str
    agent_version: str
    proof: bytes  # signature by that key over b"meridian-enrol-1\n" + token: the agent holds the private half


class EnrolResponse(msgspec.Struct, frozen=True, kw_only=True):
    """Who the agent now is, and whose signatures it trusts (key id -> raw Ed25519 public key)."""

    cluster_id: str
    cluster_name: str
    cluster_epoch: int
    plane_epoch: int
    signing_keys: dict[str, bytes]


class SyncRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What happened here, and which tables are held.

    held:   table kind -> generation held (0 = none, send everything)
    wait_s: how long the control plane may hold the answer while it has nothing new (bounded by it)
    logs_followed: whether logs are being delivered; None = this agent cannot
    decisions: those of scaling that no answer has acknowledged by not refusing; the oldest first
    """

    wire_version: int
    cluster_id: str
    instance_id: str
    cluster_epoch: int
    plane_epoch: int
    sequence: int
    wait_s: float
    held: dict[str, int]
    observed: ObservedDelta | None = None  # None: nothing changed since the last acknowledged one
    loads: tuple[ReplicaLoad, ...] = ()
    usage: tuple[UsageRecord, ...] = ()
    windows: tuple[MetricWindow, ...] = ()
    logs_followed: bool | None = None
    decisions: tuple[ScalingDecision, ...] = ()


class SyncResponse(msgspec.Struct, frozen=True, kw_only=True):
    """What is newer than what the agent holds, and what was stored of what it sent.

    refusal rules the agent must obey: ``superseded`` (another instance holds the cluster: serve on, never scale up),
    ``fenced`` (two live instances were seen: the same, until an operator enrols one of them again),
    ``not_enrolled`` (unknown key or cluster).
    """

    wire_version: int
    plane_epoch: int
    cluster_epoch: int
    tables: dict[str, TableUpdate]
    observed_acknowledged: int
    observed_full_wanted: bool
    usage_acknowledged: dict[
        str, int
    ]  # gateway_instance -> highest sequence stored with none missing before it
    windows_acknowledged: dict[str, int]
    refusal: Refusal | None = None
    logs_wanted: tuple[LogWanted, ...] = ()


def sync_signed_bytes(body: bytes) -> bytes:
    """What an agent signs for a sync."""
    return b"meridian-sync-1\n" + body


def enrol_signed_bytes(token: str) -> bytes:
    """What an agent signs to prove that it holds the private half of the key it enrols."""
    return b"meridian-enrol-1\n" + token.encode()
