"""Stored responses: which replica holds one is written into its id, so nothing has to be remembered.

A replica keeps stored responses in its own memory. Whoever asks for one again, or goes on from it, must reach that
replica: through any gateway of any region, and after a gateway's restart. So the gateway chooses the id, which
engines take from the request (``request_id``) and give back untouched::

    resp_ <cluster 4 bytes> <nonce 8> <deployment 4> <replica 8>, in hexadecimal

``cluster`` and ``deployment`` are digests that lead the request to its route and to a gateway of that cluster; the
last part is keyed with a secret that the cluster's gateways share, and covers nonce, project and replica. It says
nothing to who has not the key, can't be forged, and is another one in every project. An id that fits no replica of
the caller's project here is not found, whatever the reason.
"""

from hashlib import blake2b
from hmac import compare_digest
from secrets import token_bytes

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from workloadplane.gateway.registry import Registry
from workloadplane.protocol.refusal import Refusal
from workloadplane.protocol.routing import Route
from workloadplane.routing import Choice, Snapshot, ToPeer, ToReplica, can_serve

_PREFIX = "resp_"
_CLUSTER, _NONCE, _DEPLOYMENT, _REPLICA = slice(0, 4), slice(4, 12), slice(12, 16), slice(16, 24)
_BYTES = 24


class ResponseIds:
    """Makes and reads ids. Until the cluster has a key of its own, ids hold for this process only."""

    def __init__(self) -> None:
        self._key = token_bytes(32)
        self._made_from: Ed25519PrivateKey | None = None

    def use_key(self, private_key: Ed25519PrivateKey | None) -> None:
        """The cluster's own key, known to all its gateways."""
        if private_key is not None and private_key is not self._made_from:
            self._made_from = private_key
            raw = private_key.private_bytes_raw()
            self._key = blake2b(raw, digest_size=32, person=b"response-ids").digest()

    def make(self, registry: Registry, route: Route, replica_id: str) -> str:
        """An id for a response that this replica is about to store."""
        nonce = token_bytes(8)
        made = _digest(registry.cluster_id) + nonce + _digest(route.deployment_id)
        return _PREFIX + (made + self._replica_part(nonce, route.project_id, replica_id)).hex()

    def find_route(self, registry: Registry, project_id: str, response_id: str) -> Route | None:
        """The project's deployment that a response belongs to."""
        raw = _raw(response_id)
        if raw is None:
            return None
        for route in registry.deployments.values():
            if route.project_id == project_id and _digest(route.deployment_id) == raw[_DEPLOYMENT]:
                return route
        return None

    def find_holder(self, registry: Registry, route: Route, response_id: str) -> "Holder | None":
        """The replica here, or the cluster elsewhere, that a response of this deployment lies in."""
        raw = _raw(response_id)
        if raw is None or raw[_DEPLOYMENT] != _digest(route.deployment_id):
            return None
        if raw[_CLUSTER] != _digest(registry.cluster_id):
            header = registry.header
            peers = header.peers if header else ()
            return next(
                (Holder("", p.cluster_id) for p in peers if _digest(p.cluster_id) == raw[_CLUSTER]), None
            )
        for replica_id, endpoint in registry.endpoints.items():
            if endpoint.deployment_id == route.deployment_id and compare_digest(
                raw[_REPLICA], self._replica_part(raw[_NONCE], route.project_id, replica_id)
            ):
                return Holder(replica_id, registry.cluster_id)
        return None

    def _replica_part(self, nonce: bytes, project_id: str, replica_id: str) -> bytes:
        named = b"\0".join((nonce, project_id.encode(), replica_id.encode()))
        return blake2b(named, key=self._key, digest_size=8).digest()


class Holder:
    """Where a stored response lies. ``replica_id`` is empty where it is another cluster's to know."""

    __slots__ = ("cluster_id", "replica_id")

    def __init__(self, replica_id: str, cluster_id: str) -> None:
        self.replica_id = replica_id
        self.cluster_id = cluster_id


def go_to(holder: Holder, snapshot: Snapshot, *, tried: frozenset[str], may_forward: bool) -> Choice:
    """The choice for a request that one replica alone can answer: there, or nowhere."""
    refusal = can_serve(snapshot, may_forward=may_forward)
    if refusal is not None:
        return refusal
    here = not snapshot.residency or snapshot.jurisdiction in snapshot.residency
    if holder.replica_id:
        known = any(replica.replica_id == holder.replica_id for replica in snapshot.replicas)
        if known and here and holder.replica_id not in tried:
            return ToReplica(holder.replica_id, reasons=("holds the stored response",))
    elif may_forward and holder.cluster_id not in tried:
        peer = snapshot.peers.get(holder.cluster_id)
        if peer is not None and (not snapshot.residency or peer.jurisdiction in snapshot.residency):
            return ToPeer(
                holder.cluster_id, may_hold=False, reasons=("its cluster holds the stored response",)
            )
    return Refusal(
        rule="stored_response",
        subject="response",
        value="the replica that holds it can't be asked",
        remedy="send the whole conversation as a new request",
    )


def _digest(name: str) -> bytes:
    return blake2b(name.encode(), digest_size=4).digest()


def _raw(response_id: str) -> bytes | None:
    encoded = response_id.removeprefix(_PREFIX)
    if len(encoded) != 2 * _BYTES or encoded == response_id:
        return None
    try:
        raw = bytes.fromhex(encoded)
    except ValueError:
        return None
    return raw if len(raw) == _BYTES else None  # blanks are passed over
