"""What this cluster has of every revision, as its gateways tell it to one another and to their peers.

Each process knows what it sends itself; what its siblings send they tell it (``handover``). How fast prompts are
computed is measured on streams: bytes that no cache was believed to hold, by the time until the first token. How long
a request takes is what peers say, where nothing is measured here.
"""

from collections.abc import Collection, Iterable, Mapping
from math import inf
from statistics import fmean
from time import monotonic
from typing import Protocol

import msgspec

from workloadplane.gateway.queueing.service import Service
from workloadplane.gateway.registry import Registry
from workloadplane.health.outlook import Sighting
from workloadplane.routing.prefill_speed import PrefillSpeed
from workloadplane.routing.regions import PeerFacts, RevisionLoad, together

REVISIONS_MAX = 4096
PEERS_MAX = 1024
#: What another process or cluster has said counts for so long.
HOLDS_S = 2.0
_decoder = msgspec.json.Decoder(dict[str, RevisionLoad])


class RegionWord(msgspec.Struct, frozen=True, kw_only=True):
    """What a cluster's gateway answers to a peer's question.

    ready: it can serve at all
    loads: what it has, by revision
    seen:  what it sees of the other clusters, by id
    """

    ready: bool
    loads: dict[str, RevisionLoad]
    seen: dict[str, Sighting] = {}


_word_decoder = msgspec.json.Decoder(RegionWord)


def decoded_word(told: bytes) -> RegionWord | None:
    """What a peer said, if it makes sense."""
    try:
        word = _word_decoder.decode(told)
    except msgspec.DecodeError:
        return None
    sane = len(word.seen) <= PEERS_MAX and all(0.0 <= seen.silent_s < inf for seen in word.seen.values())
    return word if sane and _are_sane(word.loads) else None


def decoded(told: bytes) -> dict[str, RevisionLoad] | None:
    """What a sibling said, if it makes sense."""
    try:
        loads = _decoder.decode(told)
    except msgspec.DecodeError:
        return None
    return loads if _are_sane(loads) else None


def _are_sane(loads: Mapping[str, RevisionLoad]) -> bool:
    return len(loads) <= REVISIONS_MAX and all(load.is_sane for load in loads.values())


def told_request_s(peers: Iterable[PeerFacts], revision_ids: Collection[str]) -> float | None:
    """How long a request of one of these revisions takes, by what peers have measured; ``None``: nobody has."""
    loads = (load for peer in peers for name, load in (peer.loads or {}).items() if name in revision_ids)
    told = [load.request_s for load in loads if load.request_s]
    return fmean(told) if told else None


class Room(Protocol):
    """Of the waiting room, what is told."""

    def waiting(self, deployment_id: str) -> int: ...

    def service(self, deployment_id: str) -> Service | None: ...


class Loads:
    """One per process."""

    def __init__(self) -> None:
        self._speeds: dict[str, PrefillSpeed] = {}
        self._siblings: dict[int, tuple[float, dict[str, RevisionLoad]]] = {}

    def computed(self, revision_id: str, anew_bytes: int, took_s: float, now_s: float) -> None:
        """So much of a prompt was computed until the first token came."""
        self._speeds.setdefault(revision_id, PrefillSpeed()).computed(anew_bytes, took_s, now_s)

    def heard(self, index: int, told: bytes) -> None:
        """What the sibling with this index said."""
        loads = decoded(told)
        if loads is not None:
            self._siblings[index] = (monotonic(), loads)

    def own(self, registry: Registry, room: Room) -> dict[str, RevisionLoad]:
        """By revision, as this process alone sees it."""
        ready: dict[tuple[str, str], int] = {}
        in_flight: dict[str, int] = {}
        for name, endpoint in registry.endpoints.items():
            key = endpoint.deployment_id, endpoint.revision_id
            ready[key] = ready.get(key, 0) + (endpoint.state == "ready")
            busy = in_flight.get(endpoint.deployment_id, 0)
            in_flight[endpoint.deployment_id] = busy + registry.in_flight.get(name, 0)
        told: dict[str, RevisionLoad] = {}
        for deployment_id, revision_id in list(ready)[:REVISIONS_MAX]:
            service = room.service(deployment_id)
            told[revision_id] = RevisionLoad(
                ready=ready[deployment_id, revision_id],
                seats=registry.seats(deployment_id),
                in_flight=in_flight[deployment_id],
                waiting=room.waiting(deployment_id),
                request_s=(service.request_s_mean or 0.0) if service is not None else 0.0,
                prefill_bytes_per_s=self._speed(revision_id),
            )
        return told

    def here(self, registry: Registry, room: Room, now_s: float) -> dict[str, RevisionLoad]:
        """By revision, of this cluster: what all its processes see."""
        told = self.own(registry, room)
        for at_s, loads in self._siblings.values():
            if now_s - at_s <= HOLDS_S:
                for revision_id in told.keys() & loads.keys():
                    told[revision_id] = together((told[revision_id], loads[revision_id]))
        return told

    def sweep(self, now_s: float) -> None:
        """Forget what is old: who has not measured lately is asked again, and so measures again."""
        self._speeds = {n: s for n, s in self._speeds.items() if not s.is_old(now_s)}

    def _speed(self, revision_id: str) -> float:
        speed = self._speeds.get(revision_id)
        return speed.bytes_per_s if speed is not None else 0.0
