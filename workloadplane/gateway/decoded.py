"""Verified tables as they are looked up.

Decoded entries are kept for as long as their bytes stay the same, so a delta costs what changed. All functions raise
msgspec.DecodeError for entries of another wire version.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from workloadplane.protocol.routing import ApiKeyEntry, KeySetHeader, Peer, Route, RoutingHeader
from workloadplane.protocol.tables import Table
from workloadplane.routing import PeerFacts

_Entry = TypeVar("_Entry", Route, ApiKeyEntry)
_key_decoder = msgspec.json.Decoder(ApiKeyEntry)
_route_decoder = msgspec.json.Decoder(Route)


@dataclass(slots=True)
class Keys:
    """The key set in force."""

    table: Table
    entries: dict[str, tuple[bytes, ApiKeyEntry]]
    by_sha256: dict[bytes, ApiKeyEntry]
    signing_keys: dict[str, bytes]


@dataclass(slots=True)
class Routing:
    """The routing table in force."""

    table: Table
    entries: dict[str, tuple[bytes, Route]]
    header: RoutingHeader
    issued_at: float
    by_name: dict[tuple[str, str], Route]
    routes: dict[str, Route]
    peers: dict[str, Peer]
    peer_facts: dict[str, PeerFacts]


PreparedTable = Keys | Routing


def keys_of(table: Table, before: Keys | None) -> Keys:
    """A key set, after the one that was in force."""
    header = msgspec.json.decode(table.contents().header, type=KeySetHeader)
    entries = _decoded(table, before.entries if before else {}, _key_decoder.decode)
    return Keys(table, entries, {entry.sha256: entry for _, entry in entries.values()}, header.signing_keys)


def routing_of(table: Table, before: Routing | None) -> Routing:
    """A routing table, after the one that was in force."""
    manifest = table.contents()
    header = msgspec.json.decode(manifest.header, type=RoutingHeader)
    entries = _decoded(table, before.entries if before else {}, _route_decoder.decode)
    routes = [route for _, route in entries.values()]
    return Routing(
        table=table,
        entries=entries,
        header=header,
        issued_at=manifest.issued_at or 0.0,
        by_name={(route.project_id, name): route for route in routes for name in names_of(route)},
        routes={route.deployment_id: route for route in routes},
        peers={peer.cluster_id: peer for peer in header.peers},
        peer_facts={
            peer.cluster_id: PeerFacts(
                peer.cluster_id, peer.region, peer.jurisdiction, peer.rtt_ms, admits="sessions"
            )
            for peer in header.peers
        },
    )


def names_of(route: Route) -> Iterator[str]:
    """What clients may send as ``model``."""
    yield route.deployment
    for adapter in route.adapters:
        yield f"{route.deployment}:{adapter}"


def _decoded(
    table: Table, known: Mapping[str, tuple[bytes, _Entry]], decode: Callable[[bytes], _Entry]
) -> dict[str, tuple[bytes, _Entry]]:
    """Entries by key; those whose bytes we know are not decoded again."""
    entries: dict[str, tuple[bytes, _Entry]] = {}
    for key, raw in table.entries.items():
        before = known.get(key)
        entries[key] = before if before is not None and before[0] == raw else (raw, decode(raw))
    return entries
