"""Routing: which replica, or which other region, shall serve this request?

``pick(facts, snapshot, policy, rng)`` answers with a replica here, a peer region, to wait, or a Refusal,
each with its reasons. Pure: the same code serves the gateway, tests and the simulation; time, load and
randomness are arguments. Whether a replica *may* serve (ready, residency, posture, adapter, context) is a
filter and never a low score; which of those that may is *preferred* (``scoring``) comes after. What caches hold
is believed by ``PrefixIndex``, which changes by ``step`` alone.

Never imports the gateway, the agent, engines or runtimes; no I/O, no clock.
"""

from workloadplane.routing.facts import (
    VACANT,
    Choice,
    Policy,
    Reasons,
    ReplicaFacts,
    RequestFacts,
    RevisionShare,
    Snapshot,
    ToPeer,
    ToReplica,
    Wait,
)
from workloadplane.routing.pick import can_serve, is_handed_over, pick
from workloadplane.routing.pinned import only_revision, withholding
from workloadplane.routing.places import arranged
from workloadplane.routing.regions import PeerFacts

__all__ = [
    "VACANT",
    "Choice",
    "PeerFacts",
    "Policy",
    "Reasons",
    "ReplicaFacts",
    "RequestFacts",
    "RevisionShare",
    "Snapshot",
    "ToPeer",
    "ToReplica",
    "Wait",
    "arranged",
    "can_serve",
    "is_handed_over",
    "only_revision",
    "pick",
    "withholding",
]
