"""Which incidents are there? What was found is folded into those that are held: one for each cause.

``fold(held, suspected, findings, now, policy)`` is all of it. A failing place belongs to the topmost failing place
that it is a part of; that is the cause. It joins the incident of whatever it lies in that is not resolved yet, so that
what comes back in pieces stays one incident. Where a provider is lost after two of its regions were, their incidents
are folded under the provider's: they go on, and end no later than it does.

The order of what is given means nothing, and what is folded twice at one moment is folded once.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from controlplane.failover.findings import Finding
from controlplane.failover.incident import (
    SEVERITY_BY_CAUSE,
    Cause,
    Incident,
    IncidentEvent,
    Place,
    incident_step,
)
from workloadplane.protocol.refusal import Refusal


def _open_after_s() -> Mapping[Cause, float]:
    return {"cut_off": 10.0, "no_gateway": 5.0, "unkept": 10.0, "replicas": 20.0}


@dataclass(frozen=True, kw_only=True)
class FoldPolicy:
    """Seconds.

    open_after_s: a cause must last so long before it is an incident; one that is not named opens at once, for its
                  evidence has been weighed already
    sound_s:      all of it must have been sound for so long before it is resolved
    """

    open_after_s: Mapping[Cause, float] = field(default_factory=_open_after_s)
    sound_s: float = 60.0


@dataclass(frozen=True, kw_only=True)
class Folded:
    """All incidents that were held and those that are new, and since when each failing place fails."""

    incidents: tuple[Incident, ...]
    suspected: Mapping[Place, datetime]


def fold(
    held: Iterable[Incident],
    suspected: Mapping[Place, datetime],
    findings: Iterable[Finding],
    *,
    now: datetime,
    policy: FoldPolicy,
) -> Folded:
    """One look. ``held``: those that are not resolved; ``suspected``: of the last look."""
    found = {row.place: row for row in findings}
    failing = {place: suspected.get(place, now) for place, row in found.items() if row.health == "failing"}
    due = {place for place, since in failing.items() if _is_due(found[place], since, now, policy)}
    incidents = {row.place: row for row in held}
    for place in sorted(due):
        cause = _topmost(place, found, due)
        home = _topmost(cause, found, incidents) if cause not in incidents else cause
        if home not in incidents:
            incidents[home] = _opened(found[cause], now)
        incidents[home] = _joined(incidents[home], found[place], found[cause])
    incidents = _nested(incidents, found)
    after = {place: _advanced(row, found, now, policy) for place, row in incidents.items()}
    return Folded(incidents=tuple(after[place] for place in sorted(after)), suspected=failing)


def _is_due(row: Finding, since: datetime, now: datetime, policy: FoldPolicy) -> bool:
    if row.cause is None:
        return False
    return now - since >= timedelta(seconds=policy.open_after_s.get(row.cause, 0.0))


def _lineage(place: Place, found: Mapping[Place, Finding]) -> Iterator[Place]:
    """What a place is a part of, the nearest first."""
    row = found.get(place)
    while row is not None and row.within is not None:
        yield row.within
        row = found.get(row.within)


def _topmost(place: Place, found: Mapping[Place, Finding], among: Iterable[Place]) -> Place:
    """The outermost of these that a place lies in, else itself."""
    known = set(among)
    return next((one for one in reversed(list(_lineage(place, found))) if one in known), place)


def _opened(row: Finding, now: datetime) -> Incident:
    cause = row.cause or "lost"
    return Incident(
        place=row.place,
        state="open",
        severity=SEVERITY_BY_CAUSE[cause],
        cause=cause,
        opened_at=now,
        since=now,
        members=frozenset({row.place}),
    )


def _joined(incident: Incident, row: Finding, cause: Finding) -> Incident:
    """With one more place that fails in it; it becomes as severe as its worst."""
    worst = incident
    for one in (row, cause):
        if one.cause is not None and SEVERITY_BY_CAUSE[one.cause] == "error" and worst.severity != "error":
            is_own = one.place == incident.place
            worst = replace(worst, severity="error", cause=one.cause if is_own else worst.cause)
    return replace(worst, members=incident.members | {row.place, cause.place})


def _nested(incidents: Mapping[Place, Incident], found: Mapping[Place, Finding]) -> dict[Place, Incident]:
    """Each under the outermost one that it lies in, which has all its members too."""
    after = dict(incidents)
    for place in sorted(incidents):
        outermost = _topmost(place, found, incidents)
        if outermost == place:
            after[place] = replace(
                after[place], parent=after[place].parent if _keeps(place, after, found) else None
            )
            continue
        after[place] = replace(after[place], parent=outermost)
        after[outermost] = replace(
            after[outermost], members=after[outermost].members | incidents[place].members
        )
    return {place: replace(row, parent=_page(row, after)) for place, row in after.items()}


def _page(incident: Incident, incidents: Mapping[Place, Incident]) -> Place | None:
    """Where it is told of. Under what a place that is gone was folded may itself have been folded since."""
    parent = incident.parent
    while parent is not None and (above := incidents[parent].parent) is not None:
        parent = above
    return parent


def _keeps(place: Place, incidents: Mapping[Place, Incident], found: Mapping[Place, Finding]) -> bool:
    """A place that is gone from the fleet stays where it was folded, for as long as that lasts."""
    parent = incidents[place].parent
    return place not in found and parent in incidents


def _advanced(
    incident: Incident, found: Mapping[Place, Finding], now: datetime, policy: FoldPolicy
) -> Incident:
    """By how its members are now. One that is not there any more is waited for no longer."""
    healths = {found[place].health for place in incident.members if place in found}
    if "failing" in healths:
        return _stepped(replace(incident, sound_since=None), "failing", now)
    if "unknown" in healths:
        return replace(incident, sound_since=None)
    after = _stepped(incident, "recovering", now)
    if "returning" in healths:
        return replace(after, sound_since=None)
    sound_since = after.sound_since or now
    after = replace(after, sound_since=sound_since)
    return (
        _stepped(after, "settled", now) if now - sound_since >= timedelta(seconds=policy.sound_s) else after
    )


def _stepped(incident: Incident, event: IncidentEvent, now: datetime) -> Incident:
    state = incident_step(incident.state, event)
    return incident if isinstance(state, Refusal) else replace(incident, state=state, since=now)
