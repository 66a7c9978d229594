"""The edge leads clients to the nearest gateway that answers, once it has seen who does not."""

from dataclasses import dataclass
from math import inf

from controlplane.simulation.serving.geography import Geography, Outage

#: It sees that a gateway is back with its next check (``infra.embedded.edge``).
EDGE_CHECKS_EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class Goes:
    """A region falls silent."""

    outage: Outage


@dataclass(frozen=True, slots=True)
class Notices:
    """The edge leads nobody there any more, if it is silent still."""

    region: str


@dataclass(frozen=True, slots=True)
class Returns:
    """A region speaks again."""

    outage: Outage


@dataclass(frozen=True, slots=True)
class Reopens:
    """The edge leads there again."""

    region: str


class Edge:
    """Single owner: the mode that plays, which tells it of each of these. ``away``: regions that say nothing."""

    def __init__(self, geography: Geography) -> None:
        self.away: dict[str, Outage] = {}
        self._closed: dict[str, float] = {}
        self._detect_s = geography.detect_s
        self._orders = [geography.round_trips.nearest(one, geography.names) for one in geography.origins]

    def hear(self, event: Goes | Notices | Returns | Reopens) -> None:
        """It has happened."""
        match event:
            case Goes(outage):
                self.away[outage.region] = outage
            case Notices(region):
                if region in self.away:
                    self._closed[region] = self.away[region].back_s + EDGE_CHECKS_EVERY_S
            case Returns(outage):
                del self.away[outage.region]
            case Reopens(region):
                self._closed.pop(region, None)

    def gateway(self, origin: int) -> str | None:
        """Where the clients of a place (its number) come out; None: at a gateway that says nothing, or nowhere."""
        name = self._led_to(origin)
        return None if name is None or name in self.away else name

    def tries_again_s(self, origin: int, now_s: float) -> float:
        """When it leads them somewhere else than to a gateway that says nothing."""
        silent = self._led_to(origin)
        if silent is not None:
            return max(now_s, self.away[silent].at_s + self._detect_s)
        return max(now_s, min(self._closed.values(), default=inf))

    def _led_to(self, origin: int) -> str | None:
        return next((name for name in self._orders[origin] if name not in self._closed), None)
