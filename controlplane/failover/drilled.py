"""Which drill has brought an incident about, so that whoever is paged knows that it is one?

What a drill breaks is an incident like any other: seen by the same evidence, ended by the same rules. It is marked as
the drill's where it began while the fault lasted or its traces died away, and all that fails in it lies where the drill
is. The mark goes where more fails than the drill has broken, and where it still fails long after the fault is over.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from controlplane.failover.drill import DrillKind
from controlplane.failover.incident import Incident

#: After the fault, in which engines start and regions return; of what still fails then the drill is no reason.
TRACES: Final = timedelta(seconds=60)
_BETWEEN_REGIONS: Final[frozenset[DrillKind]] = frozenset(
    {"latency", "partition-one-way", "partition-two-way"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillFault:
    """What a drill by faults breaks, and when. ``clusters``: by name; ``ended_at``: None while it lasts."""

    drill_id: str
    kind: DrillKind
    clusters: frozenset[str]
    began_at: datetime
    ended_at: datetime | None


def drill_behind(incident: Incident, drills: Iterable[DrillFault]) -> DrillFault | None:
    """The drill that has opened an incident, or opened it again; of several the last, None where none has."""
    found = (one for one in drills if _lasts(one, incident.since) and _explains(one, incident))
    return max(found, key=lambda one: one.began_at, default=None)


def is_drill_still(incident: Incident, drill: DrillFault, *, now: datetime) -> bool:
    """Whether an incident that was marked as this drill's is so still."""
    return _explains(drill, incident) and (incident.state != "open" or _lasts(drill, now))


def _lasts(drill: DrillFault, at: datetime) -> bool:
    return drill.began_at <= at and (drill.ended_at is None or at <= drill.ended_at + TRACES)


def _explains(drill: DrillFault, incident: Incident) -> bool:
    """Whether the drill is reason enough for all that fails. Who is cut off from whom depends on who looks."""
    if drill.kind == "lose-control-plane" or incident.place.kind == "control_plane":
        return drill.kind == "lose-control-plane" and incident.place.kind == "control_plane"
    if drill.kind in _BETWEEN_REGIONS and incident.cause == "cut_off":
        return True
    clusters = {
        place.name.partition("/")[0]
        for place in incident.members
        if place.kind in ("cluster", "pool", "replica")
    }
    return bool(clusters) and clusters <= drill.clusters
