"""What is in force at this gateway: the verified tables, the replicas, and the load that it has put on them.

Tables come from the agent's socket or, at start, from its disk; either way they are verified here: signature,
audience, order. The trusted keys are those of the agent's identity and those that a verified key set names.
``decoded`` makes of them what is looked up.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from workloadplane.gateway.decoded import Keys, PreparedTable, Routing, keys_of, routing_of
from workloadplane.gateway.ejections import Ejections
from workloadplane.health.ejection import EjectionPolicy
from workloadplane.protocol.local import Endpoint, EndpointSet, Identity
from workloadplane.protocol.refusal import Refusal
from workloadplane.protocol.routing import (
    ApiKeyEntry,
    Peer,
    RevisionRoute,
    Route,
    RoutingHeader,
)
from workloadplane.protocol.tables import FOR_GATEWAYS, Table, TableKind, TableUpdate, adopt
from workloadplane.routing import (
    VACANT,
    PeerFacts,
    ReplicaFacts,
    RevisionShare,
    Snapshot,
    arranged,
    withholding,
)
from workloadplane.routing.regions import RevisionLoad


class LiveSet:
    """Names that hold for a while: who is avoided until when. Read by the routing room as a collection."""

    def __init__(self) -> None:
        self._until_s: dict[str, float] = {}

    def add(self, name: str, until_s: float) -> None:
        self._until_s[name] = until_s

    def discard(self, name: str) -> None:
        self._until_s.pop(name, None)

    def expire(self, now_s: float) -> None:
        for name in [name for name, until_s in self._until_s.items() if until_s <= now_s]:
            del self._until_s[name]

    def __contains__(self, name: object) -> bool:
        return name in self._until_s

    def __iter__(self) -> Iterator[str]:
        return iter(self._until_s)

    def __len__(self) -> int:
        return len(self._until_s)


@dataclass(slots=True)
class Registry:
    """One per process. Reading is look-ups in dictionaries.

    changes: how often something was put in force; what follows from tables and a request's head alone holds meanwhile
    """

    identity: Identity | None = None
    changes: int = 0
    in_flight: dict[str, int] = field(default_factory=dict)
    burden: dict[str, float] = field(default_factory=dict)
    promised: Counter[str] = field(default_factory=Counter)
    pressure: dict[str, float] = field(default_factory=dict)
    lately: dict[str, float] = field(default_factory=dict)
    loads_here: dict[str, RevisionLoad] = field(default_factory=dict)
    ejections: Ejections = field(default_factory=lambda: Ejections(EjectionPolicy(), Counter()))
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    endpoint_generation: int = 0
    handed_over: frozenset[str] = frozenset()  # replicas that are about to vanish
    plane_heard_s: float | None = None  # monotonic; None = not since this gateway started
    loaded_s: float | None = None  # when it took what lay on its agent's disk; monotonic
    _keys: Keys | None = None
    _routing: Routing | None = None
    _replicas: dict[str, tuple[ReplicaFacts, ...]] = field(default_factory=dict)
    _unready: dict[str, LiveSet] = field(default_factory=dict)
    _snapshots: dict[str, Snapshot] = field(default_factory=dict)
    _avoided: dict[str, set[str]] = field(default_factory=dict)

    # Reading

    def api_key(self, sha256: bytes) -> ApiKeyEntry | None:
        return self._keys.by_sha256.get(sha256) if self._keys else None

    def route(self, project_id: str, model: str) -> Route | None:
        return self._routing.by_name.get((project_id, model)) if self._routing else None

    def routes_of(self, project_id: str) -> list[Route]:
        """The project's routes by name."""
        if self._routing is None:
            return []
        owned = (route for route in self._routing.routes.values() if route.project_id == project_id)
        return sorted(owned, key=lambda route: route.deployment)

    def peer(self, cluster_id: str) -> Peer | None:
        return self._routing.peers.get(cluster_id) if self._routing else None

    @property
    def peer_facts(self) -> dict[str, PeerFacts]:
        """What the routing room knows of peers; snapshots read it as it is now."""
        return self._routing.peer_facts if self._routing else {}

    @property
    def deployments(self) -> Mapping[str, Route]:
        """Routes by deployment id."""
        return self._routing.routes if self._routing else {}

    @property
    def cluster_id(self) -> str:
        """Of this cluster; empty before the agent has enrolled."""
        return self.identity.cluster_id if self.identity else ""

    @property
    def region(self) -> str:
        """Of this cluster; empty before there is a routing table."""
        return self._routing.header.region if self._routing else ""

    @property
    def routing_issued_at(self) -> float:
        """When the control plane made the routing table in force, by its clock, in seconds since 1970; 0 = not told."""
        return self._routing.issued_at if self._routing else 0.0

    @property
    def header(self) -> RoutingHeader | None:
        return self._routing.header if self._routing else None

    def generation(self, kind: str) -> int:
        """Of the table in force, 0 if there is none."""
        held = self.held(kind)
        return held.generation if held else 0

    def held(self, kind: str) -> Table | None:
        if kind == "keyset":
            return self._keys.table if self._keys else None
        return self._routing.table if kind == "routing" and self._routing else None

    @property
    def has_tables(self) -> bool:
        """Whether it is known which keys and which deployments there are."""
        return self._keys is not None and self._routing is not None

    def not_ready_because(self) -> list[str]:
        """What is missing to serve at all; empty = ready."""
        missing = []
        if self._keys is None:
            missing.append("no verified key set")
        if self._routing is None:
            missing.append("no verified routing table")
        elif not self._routing.peers and not any(e.state == "ready" for e in self.endpoints.values()):
            missing.append("neither a ready replica nor a peer")
        return missing

    def snapshot(self, route: Route, now_s: float) -> Snapshot:
        """The deployment as the routing room wants it (``now_s``: monotonic). Live mappings inside: use it at once."""
        cached = self._snapshots.get(route.deployment_id)
        if cached is None:
            cached = self._snapshots[route.deployment_id] = self._make_snapshot(route)
        avoided = self._avoided[route.deployment_id]
        if self.ejections.states:
            self._note_avoided(cached, avoided, now_s)
        elif avoided:
            avoided.clear()
        if cached.posture == "active_passive" and not self._lease_holds(now_s):
            cached = replace(cached, lease_holds=False)
        return replace(cached, peers={}) if cached.peers and not self.may_forward(now_s) else cached

    def _note_avoided(self, snapshot: Snapshot, avoided: set[str], now_s: float) -> None:
        """Bring what the cached snapshot says of this moment up to it."""
        places = snapshot.places
        avoided.clear()
        avoided |= self.ejections.avoided(places.place_of, places.ready.bit_count(), self.in_flight, now_s)

    def seats(self, deployment_id: str) -> int:
        """What all ready replicas of a deployment compute side by side; 0 = not known."""
        bounds = [r.max_in_flight for r in self._replicas.get(deployment_id, ()) if r.ready]
        return sum(bounds) if all(bounds) else 0

    def is_plane_stale(self, now_s: float) -> bool:
        """Whether what the tables say may be out of date; serving goes on all the same."""
        return self._routing is None or self._unheard_s(now_s) > self._routing.header.soft_ttl_s

    def may_forward(self, now_s: float) -> bool:
        """Whether peers are still vouched for. Of a table from the disk it is not known since when: since the start."""
        ttl_s = self._routing.header.forwarding_ttl_s if self._routing is not None else None
        heard_s = self.loaded_s if self.plane_heard_s is None else self.plane_heard_s
        return ttl_s is None or heard_s is None or now_s - heard_s <= ttl_s

    def _lease_holds(self, now_s: float) -> bool:
        return self._routing is not None and self._unheard_s(now_s) <= self._routing.header.hard_ttl_s

    def _unheard_s(self, now_s: float) -> float:
        return math.inf if self.plane_heard_s is None else now_s - self.plane_heard_s

    def unready(self, deployment_id: str) -> LiveSet:
        """Peers that lately said that they have no ready replica of this deployment."""
        live = self._unready.get(deployment_id)
        if live is None:
            live = self._unready[deployment_id] = LiveSet()
        return live

    def expire(self, now_s: float) -> None:
        """Let go of avoidances whose time is over."""
        for live in self._unready.values():
            live.expire(now_s)

    def _make_snapshot(self, route: Route) -> Snapshot:
        routing = self._routing
        snapshot = Snapshot(
            cluster_id=self.cluster_id,
            jurisdiction=routing.header.jurisdiction if routing else "",
            residency=frozenset(route.residency),
            residency_ingress=route.residency_ingress,
            posture=route.posture,
            revisions=tuple(map(_share, route.revisions)),
            replicas=self._replicas.get(route.deployment_id, ()),
            peers=routing.peer_facts if routing else {},
            in_flight=self.in_flight,
            unavailable=self._avoided.setdefault(route.deployment_id, set()),
            unready=self.unready(route.deployment_id),
            lease_holds=True,
            burden=self.burden,
            pressure=self.pressure,
            lately=self.lately,
            here=self.loads_here,
        )
        return withholding(snapshot, route.withheld)

    # Changing

    def set_identity(self, identity: Identity) -> None:
        """Another cluster's tables are worth nothing: they are dropped when the cluster changes."""
        if self.identity is not None and self.identity.cluster_id != identity.cluster_id:
            self._keys = None
            self._routing = None
            self._snapshots.clear()
        self.identity = identity
        self.changes += 1

    def adopt_endpoints(self, endpoints: EndpointSet) -> Refusal | None:
        """Take these replicas unless they are an older generation."""
        if endpoints.endpoint_generation < self.endpoint_generation:
            return Refusal(
                rule="generation_rises",
                subject="endpoint_generation",
                value=str(endpoints.endpoint_generation),
                remedy=f"this gateway holds {self.endpoint_generation}; send that or a later one",
            )
        self.endpoint_generation = endpoints.endpoint_generation
        self.endpoints = {endpoint.replica_id: endpoint for endpoint in endpoints.endpoints}
        self.handed_over = frozenset(each.replica_id for each in endpoints.endpoints if each.hand_over)
        by_deployment: dict[str, list[ReplicaFacts]] = {}
        for endpoint in endpoints.endpoints:
            by_deployment.setdefault(endpoint.deployment_id, []).append(
                ReplicaFacts(
                    endpoint.replica_id,
                    endpoint.revision_id,
                    endpoint.state == "ready",
                    endpoint.concurrency_target,
                    endpoint.max_in_flight,
                    adapters=frozenset(endpoint.adapters),
                    max_context_tokens=endpoint.max_context_tokens,
                )
            )
        self._replicas = {
            name: arranged(self._replicas.get(name, ()), replicas, VACANT)
            for name, replicas in by_deployment.items()
        }
        self._snapshots.clear()
        self.ejections.keep_only(self.endpoints)
        return None

    def adopt_table(self, kind: str, table: Table) -> Refusal | None:
        """Verify a table and put it in force, or say why not."""
        prepared = self.prepare_table(kind, table)
        if isinstance(prepared, Refusal):
            return prepared
        self.install_table(prepared)
        return None

    def prepare_table(self, kind: str, table: Table) -> PreparedTable | Refusal:
        """Verify and decode a table; nothing is changed, so it may run in another thread.

        A table of a kind that is not for gateways is refused.
        """
        if self.identity is None:
            return _refused(kind, "no identity yet", "send the identity first")
        if kind not in FOR_GATEWAYS:
            return _refused(kind, "not for gateways", f"send {' or '.join(FOR_GATEWAYS)}")
        table_kind: TableKind = "keyset" if kind == "keyset" else "routing"
        adopted = adopt(
            self.held(kind),
            TableUpdate(manifest=table.manifest, entries=table.entries),
            kind=table_kind,
            audience=self.identity.cluster_id,
            trusted=self._trusted(self.identity),
        )
        if isinstance(adopted, Refusal):
            return adopted
        try:
            return keys_of(adopted, self._keys) if kind == "keyset" else routing_of(adopted, self._routing)
        except msgspec.DecodeError as error:
            return _refused(kind, str(error)[:200], "send entries of this wire version")

    def install_table(self, prepared: PreparedTable) -> None:
        """Put a prepared table in force."""
        if isinstance(prepared, Keys):
            self._keys = prepared
        else:
            for name, facts in self.peer_facts.items():
                if name in prepared.peer_facts:  # what was heard of it outlives the table
                    prepared.peer_facts[name] = _still_heard(prepared.peer_facts[name], facts)
            self._routing = prepared
            self._unready = {name: live for name, live in self._unready.items() if name in prepared.routes}
            self._avoided = {name: names for name, names in self._avoided.items() if name in prepared.routes}
            self.ejections.keep_budgets(prepared.routes)
        self._snapshots.clear()
        self.changes += 1

    def _trusted(self, identity: Identity) -> dict[str, Ed25519PublicKey]:
        raw = {**identity.signing_keys, **(self._keys.signing_keys if self._keys else {})}
        return {
            key_id: Ed25519PublicKey.from_public_bytes(key) for key_id, key in raw.items() if len(key) == 32
        }


def _still_heard(told: PeerFacts, before: PeerFacts) -> PeerFacts:
    """A peer as a new table has it, and as it was heard before."""
    rtt_ms = told.rtt_ms if before.loads is None else before.rtt_ms
    heard = {"loads": before.loads, "sent": before.sent, "admits": before.admits, "share": before.share}
    return replace(told, rtt_ms=rtt_ms, **heard)  # type: ignore[arg-type]


def _share(told: RevisionRoute) -> RevisionShare:
    share = RevisionShare(told.revision_id, told.weight, told.cluster_ids)
    return replace(share, modalities=frozenset(told.modalities)) if told.modalities else share


def _refused(kind: str, value: str, remedy: str) -> Refusal:
    return Refusal(rule="table_adopted", subject=f"table {kind}", value=value, remedy=remedy)
