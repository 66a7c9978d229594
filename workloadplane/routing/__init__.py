"""Routing: which replica, or which other region, shall serve this request?

``pick(facts, snapshot, policy, rng)`` answers with a replica here, a peer region, to wait, or a Refusal,
each with its reasons. Pure: the same code serves the gateway, tests and the simulation; time, load and
randomness are arguments. Whether a replica *may* serve (ready, residency, posture) is a filter and never a
low score; which of those that may is *preferred* comes after.

Never imports the gateway, the agent, engines or runtimes; no I/O, no clock.
"""

from workloadplane.routing.facts import (
    Choice,
    PeerFacts,
    Policy,
    ReplicaFacts,
    RequestFacts,
    RevisionShare,
    Snapshot,
    ToPeer,
    ToReplica,
    Wait,
)
from workloadplane.routing.pick import can_serve, pick

__all__ = [
    "Choice",
    "PeerFacts",
    "Policy",
    "ReplicaFacts",
    "RequestFacts",
    "RevisionShare",
    "Snapshot",
    "ToPeer",
    "ToReplica",
    "Wait",
    "can_serve",
    "pick",
]
