"""Other clusters as this one's gateways see them: gathered for the control plane. Single owner.

All gateways of a cluster look from one place. Where they differ, the one that sees a peer best counts: it can be
reached from here.
"""

from collections.abc import Iterable

import msgspec

from workloadplane.protocol.observed import PeerStanding

_BEST_FIRST = ("healthy", "probation", "suspect", "ejected")


class PeersSeen:
    """What was told last, and since when. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[PeerStanding, float]] = {}

    def take(self, told: Iterable[tuple[PeerStanding, ...]], now_s: float) -> bool:
        """What each gateway tells now; whether a peer was lost or came into sight again by it."""
        best: dict[str, PeerStanding] = {}
        for standings in told:
            for standing in standings:
                held = best.get(standing.cluster_id)
                if held is None or _rank(standing) < _rank(held):
                    best[standing.cluster_id] = standing
        before = self._since
        self._since = {
            name: before[name] if name in before and before[name][0] == standing else (standing, now_s)
            for name, standing in best.items()
        }
        return _lost(before) != _lost(self._since)

    def standings(self, now_s: float) -> tuple[PeerStanding, ...]:
        """All of them, in the order of their ids."""
        return tuple(
            msgspec.structs.replace(standing, state_for_s=round(now_s - since_s, 1))
            for _, (standing, since_s) in sorted(self._since.items())
        )


def _rank(standing: PeerStanding) -> tuple[bool, int]:
    known = standing.state in _BEST_FIRST
    return standing.has_lost, _BEST_FIRST.index(standing.state) if known else len(_BEST_FIRST)


def _lost(since: dict[str, tuple[PeerStanding, float]]) -> set[str]:
    return {name for name, (standing, _) in since.items() if standing.has_lost}
