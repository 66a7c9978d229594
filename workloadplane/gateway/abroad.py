"""What was sent to other regions: how much of a prompt a peer's caches hold, and what has gone there since its word.

A conversation that a peer has served goes back there for as long as that saves more than the way costs. Peers have
places in a prefix index as replicas have here; which of its replicas holds a prompt is the peer's own business.
"""

from collections.abc import Container, Mapping, Sequence

from workloadplane.routing import ToPeer
from workloadplane.routing.places import places_in
from workloadplane.routing.prefix import Bounds, Fleet, PrefixIndex, Routed, shrink, step
from workloadplane.routing.regions import PeerFacts

_BLOCKS_MAX = 50_000


class Abroad:
    """One per process."""

    def __init__(self, *, blocks_max: int = _BLOCKS_MAX) -> None:
        self._blocks_max = blocks_max
        self._cluster_ids: tuple[str, ...] = ()
        self._indexes: dict[str, PrefixIndex] = {}

    @property
    def knows_any(self) -> bool:
        """Whether a peer has answered any prompt lately."""
        return bool(self._indexes)

    def known(self, deployment_id: str, hashes: Sequence[int]) -> Mapping[str, int] | None:
        """Bytes of a prompt that peers hold, by cluster; ``None`` = none, and so it is nearly always."""
        index = self._indexes.get(deployment_id)
        if index is None or not hashes:
            return None
        known: dict[str, int] = {}
        for size_bytes, bits in index.match(hashes):
            for place in places_in(bits):
                known.setdefault(self._cluster_ids[place], size_bytes)
        return known or None

    def sent(self, peers: Mapping[str, PeerFacts], choice: ToPeer) -> None:
        """A request goes there: until the peer speaks again it counts as one more there."""
        peer = peers.get(choice.cluster_id)
        if peer is not None:
            peer.sent[choice.revision_id] = peer.sent.get(choice.revision_id, 0) + 1

    def served(self, deployment_id: str, cluster_id: str, hashes: Sequence[int], now_s: float) -> None:
        """A peer answers this prompt, so its caches hold it soon."""
        if not hashes:
            return
        if cluster_id not in self._cluster_ids:
            self._cluster_ids = (*self._cluster_ids, cluster_id)
            for each in self._indexes.values():
                step(each, Fleet(self._cluster_ids), each.used_at_s)
        index = self._indexes.get(deployment_id)
        if index is None:
            index = self._indexes[deployment_id] = PrefixIndex(Bounds(self._blocks_max))
            step(index, Fleet(self._cluster_ids), now_s)
        step(index, Routed(self._cluster_ids.index(cluster_id), hashes), now_s)

    def sweep(self, deployments: Container[str], cluster_ids: Container[str]) -> None:
        """Forget deployments and peers that are no more, and of the longest unused when there is too much."""
        for name in [name for name in self._indexes if name not in deployments]:
            del self._indexes[name]
        if not all(name in cluster_ids for name in self._cluster_ids):
            self._cluster_ids = tuple(name for name in self._cluster_ids if name in cluster_ids)
            self._indexes.clear()  # places have changed; peers do so rarely
        by_use = sorted(self._indexes.values(), key=lambda index: index.used_at_s)
        for index in by_use:
            while sum(each.blocks for each in by_use) > self._blocks_max and index.blocks:
                shrink(index)
