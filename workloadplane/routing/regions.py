"""Which other region: the one where the first token is expected soonest, by round trip and by what waits there.

A peer whose state is not known, for it has not said so lately, comes after all that are known to have a replica,
however near it is: silence is never taken for idleness. One that says it has none ready comes last.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RevisionLoad:
    """What a peer lately said of a revision: replicas ready there, and how long a request would wait for one."""

    ready: int
    wait_s: float


def rank(load: RevisionLoad | None, rtt_ms: float) -> tuple[int, float]:
    """The least goes first. ``load``: ``None`` = not known."""
    if load is None:
        return 1, rtt_ms
    if load.ready == 0:
        return 2, rtt_ms
    return 0, rtt_ms + 1000.0 * load.wait_s
