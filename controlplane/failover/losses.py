"""Whose replicas are to be replaced, though nobody emptied it: places that are lost and will not return soon.

Traffic has left long before, on the word of gateways alone. Capacity is dearer to move: an engine that starts anew
takes a minute or more, so what comes back within half of one is worth waiting for. From then on it counts as gone until
the incident is resolved: what has come back must have been sound for a while before anything is placed there again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from controlplane.failover.findings import Finding
from controlplane.failover.incident import Incident

#: Gateways and agents that are restarted, and machines that were paused, are back sooner.
REPLACE_AFTER_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Clusters by name.

    lost:   whose replicas are to be replaced -> since when each incident says so
    unsound: that are a part of an incident: what was begun for one of them goes on
    """

    lost: Mapping[str, datetime]
    unsound: frozenset[str]


def losses(
    incidents: Iterable[Incident],
    found: Iterable[Finding],
    *,
    now: datetime,
    looking_since: datetime | None = None,
    replace_after_s: float = REPLACE_AFTER_S,
) -> Losses:
    """Of the incidents that are not resolved, by how all places are now.

    Only a cluster that a majority of its observers has lost is replaced, as long as they have; one that the control
    plane alone does not hear serves on. ``looking_since``: the control plane was away before; what was lost then may
    have been back meanwhile, so a loss counts from there.
    """
    gone = {row.place for row in found if row.place.kind == "cluster" and row.cause == "lost"}
    lost: dict[str, datetime] = {}
    unsound: set[str] = set()
    for incident in incidents:
        if incident.state == "resolved":
            continue
        clusters = {place for place in incident.members if place.kind == "cluster"}
        unsound |= {place.name for place in clusters}
        since = max(incident.since, looking_since or incident.since)
        if incident.state == "open" and (now - since).total_seconds() >= replace_after_s:
            for place in clusters & gone:
                lost[place.name] = min(incident.since, lost.get(place.name, incident.since))
    return Losses(lost=lost, unsound=frozenset(unsound))
