"""For how long a cluster has been silent, as one observer saw it: by its own monotonic clock, while it listened.

A sign of life is a marker that changes with every call of an agent. The observer notes when it first saw the newest
one; no clock but its own is read, so none that is set forward or back makes anybody look dead. A pause in which it did
not look (it was stopped, the database was away) is nobody's silence: agents that were not answered meanwhile rest
between their calls, so they are given time to return.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class ListeningPolicy:
    """Seconds.

    pause_s:  between two looks; after more the observer counts as deaf in between
    return_s: what agents are given to be heard again after that: their longest rest and a call
    """

    pause_s: float = 2.0
    return_s: float = 12.0


@dataclass(frozen=True)
class Heard:
    """A sign of life, and when silence begins to count from it, on the observer's clock."""

    marker: str
    since_s: float


@dataclass(frozen=True)
class Listening:
    """What the observer remembers between two looks."""

    looked_s: float | None = None
    heard: Mapping[str, Heard] = field(default_factory=dict)

    def silent_s(self, name: str, marker: str, now_s: float) -> float:
        """How long after this very sign of life nothing came; 0 for one that was not seen yet."""
        heard = self.heard.get(name)
        return max(0.0, now_s - heard.since_s) if heard is not None and heard.marker == marker else 0.0


def listen(
    listening: Listening, markers: Mapping[str, str], now_s: float, policy: ListeningPolicy
) -> Listening:
    """One look: ``markers`` are the newest signs of life by name. What is not named is forgotten."""
    deaf = listening.looked_s is None or not 0 <= now_s - listening.looked_s <= policy.pause_s
    heard: dict[str, Heard] = {}
    for name, marker in markers.items():
        before = listening.heard.get(name)
        if deaf or before is None:
            heard[name] = Heard(marker, now_s + policy.return_s)
        elif before.marker != marker:
            heard[name] = Heard(marker, now_s)
        else:
            heard[name] = before
    return replace(listening, looked_s=now_s, heard=heard)
