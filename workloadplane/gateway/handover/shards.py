"""Which of several processes owns a deployment's queue. Pure: the clock is an argument.

By rendezvous: every process ranks all for a deployment alike, and the first that is not known to be away owns it.
So a process that dies takes only its own deployments away, each to the next in its rank, and has them back when
it returns.
"""

from hashlib import blake2b

_AWAY_S = 1.0


class Shards:
    """As one process sees them. ``index``: its own, of ``count``."""

    def __init__(self, index: int, count: int) -> None:
        self.index = index
        self.count = count
        self._away: dict[int, float] = {}
        self._ranks: dict[str, tuple[int, ...]] = {}

    def owner(self, deployment_id: str, now_s: float) -> int:
        """The index of the process that owns it (``now_s``: monotonic)."""
        rank = self._ranks.get(deployment_id)
        if rank is None:
            if len(self._ranks) > 100_000:
                self._ranks.clear()
            rank = self._ranks[deployment_id] = ranked(deployment_id, self.count)
        for index in rank:
            if index == self.index or self._away.get(index, 0.0) <= now_s:
                return index
        return self.index

    def note_away(self, index: int, now_s: float) -> None:
        """It did not answer: for a while others stand in for it."""
        self._away[index] = now_s + _AWAY_S


def ranked(deployment_id: str, count: int) -> tuple[int, ...]:
    """All processes, the owner first."""

    def weight(index: int) -> bytes:
        return blake2b(f"{index} {deployment_id}".encode(), digest_size=8).digest()

    return tuple(sorted(range(count), key=weight, reverse=True))
