"""What came of the requests of one region's clients, wherever they were served."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from controlplane.simulation.serving.outcome import Durations

if TYPE_CHECKING:
    from controlplane.simulation.serving.request import Request

_COUNTS = ("requests", "outside", "not_served", "away", "during", "outside_during", "ended")


@dataclass(slots=True)
class Account:
    """Counts of requests of the clients to whom this region is the nearest.

    outside:    of the SLO: they waited longer than it allows, or were not served
    not_served: refused, or given up after waiting too long
    away:       served in another region than that of their clients
    during:     came while a region was lost; ``outside_during``: of these, those outside of the SLO
    ended:      answered whole
    """

    region: str = ""
    requests: int = 0
    outside: int = 0
    not_served: int = 0
    away: int = 0
    during: int = 0
    outside_during: int = 0
    ended: int = 0
    waited: Durations = field(default_factory=Durations)
    ttft: Durations = field(default_factory=Durations)

    def begins(self, waited_s: float, first_token_s: float) -> None:
        """It has a seat at last."""
        self.waited.add(waited_s)
        self.ttft.add(waited_s + first_token_s)

    def is_late(self, request: "Request") -> None:
        """It waits longer than it may."""
        if not request.is_outside:
            request.is_outside = True
            self.outside += 1
            self.outside_during += request.is_during

    def refuses(self, request: "Request") -> None:
        """It will not be served."""
        self.is_late(request)
        self.not_served += 1
        request.is_over = True

    @property
    def within_slo(self) -> float:
        """Share of all; of none: all."""
        return 1.0 - self.outside / max(1, self.requests)

    @property
    def within_slo_during(self) -> float | None:
        """Share of those that came while a region was lost; None: none did."""
        return 1.0 - self.outside_during / self.during if self.during else None

    @property
    def within_slo_outside(self) -> float:
        """Share of those that came at any other time."""
        return 1.0 - (self.outside - self.outside_during) / max(1, self.requests - self.during)

    @property
    def spilled(self) -> float:
        """Share of those that were served in another region than that of their clients."""
        return self.away / max(1, self.requests)


def together(accounts: Iterable[Account]) -> Account:
    """All as one."""
    found = Account()
    for each in accounts:
        for name in _COUNTS:
            setattr(found, name, getattr(found, name) + getattr(each, name))
        found.waited.merge(each.waited)
        found.ttft.merge(each.ttft)
    return found
