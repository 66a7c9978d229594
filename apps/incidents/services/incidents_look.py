"""Looking at what is wrong: evidence in, incidents opened, folded, resolved and told of. Every two seconds."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import transaction

from apps.drains.services import losses_take
from apps.drills import selectors as drills
from apps.fleet import selectors as fleet
from apps.incidents.models import Incident, IncidentWatch
from apps.incidents.services.incident_close import incident_close
from apps.incidents.services.incident_enter import Turn, incident_enter, place_of
from apps.incidents.services.incident_follow import incidents_follow
from apps.incidents.services.places_find import Places, places_find
from apps.placements import selectors as placements
from apps.placements.services.advisory_lock import advisory_lock
from apps.telemetry.selectors import event_id_newest
from controlplane.failover import (
    CONTROL_PLANE,
    DrillFault,
    Finding,
    FoldPolicy,
    Place,
    drill_behind,
    fold,
    is_drill_still,
    losses,
)
from controlplane.failover import Incident as Known

logger = logging.getLogger(__name__)

FOLDING: Final = FoldPolicy()
#: The first half of the advisory lock's key; the second is the organization. Others' lie in their own modules.
_INCIDENTS_LOCK: Final = 7316
#: Nobody looked for longer than this: agents that could not call are given this to be heard again.
PAUSE: Final = timedelta(seconds=10)
RETURN: Final = timedelta(seconds=15)


def incidents_look(*, now: datetime, folding: FoldPolicy = FOLDING) -> int:
    """Look at all organizations; how many incidents took a step. May run twice, late or beside itself.

    One organization that can't be looked at is logged, and keeps no other waiting.
    """
    steps = 0
    for organization_id in fleet.organization_ids_with_clusters():
        with advisory_lock(_INCIDENTS_LOCK, organization_id) as held:
            if not held:
                continue
            try:
                steps += _look(organization_id, now, folding)
            except Exception:
                logger.exception("organization %s could not be looked at for incidents", organization_id)
    return steps


@dataclass(frozen=True)
class _Look:
    """One look at one organization. ``faults``: what drills break, where that is asked for."""

    organization_id: UUID
    places: Places
    faults: Mapping[UUID, DrillFault]
    now: datetime


@transaction.atomic
def _look(organization_id: UUID, now: datetime, folding: FoldPolicy) -> int:
    watch = _watch(organization_id, now)
    places = places_find(organization_id=organization_id, now=now)
    rows = {
        place_of(row): row
        for row in Incident.objects.filter(organization_id=organization_id, resolved_at=None).select_related(
            "parent", "drill"
        )
    }
    by_id = {row.pk: place for place, row in rows.items()}
    held = [_known(row, by_id) for row in rows.values()]
    suspected = {Place(kind, name): datetime.fromisoformat(since) for kind, name, since in watch.suspected}
    folded = fold(held, suspected, places.findings, now=now, policy=folding)
    faults = _faults(organization_id, rows, folded.incidents, places, now)
    turns = _store(_Look(organization_id, places, faults, now), rows, folded.incidents)
    for incident, turn in turns:
        incident_enter(incident, turn, now=now)
    open_rows = [row for row in rows.values() if row.resolved_at is None]
    closed = [row for row in rows.values() if row.resolved_at is not None]
    looking_since = watch.deaf_until - RETURN if watch.deaf_until is not None else None
    _replace(organization_id, folded.incidents, places, looking_since, now)
    _follow(organization_id, watch, [*open_rows, *closed], places, now)
    _close(closed, now)
    watch.suspected = [
        [place.kind, place.name, since.isoformat()] for place, since in sorted(folded.suspected.items())
    ]
    watch.looked_at = now
    watch.save()
    return len(turns)


def _faults(
    organization_id: UUID,
    rows: Mapping[Place, Incident],
    incidents: Sequence[Known],
    places: Places,
    now: datetime,
) -> Mapping[UUID, DrillFault]:
    """What drills break, where an incident is new or is a drill's."""
    marked = {row.drill_id for row in rows.values() if row.drill_id is not None}
    if not marked and all(known.place in rows for known in incidents):
        return {}
    names = {str(cluster_id): name for name, cluster_id in places.cluster_id_by_name.items()}
    return drills.faults_lately(
        organization_id=organization_id, cluster_names=names, drill_ids=marked, now=now
    )


def _replace(
    organization_id: UUID,
    incidents: Iterable[Known],
    places: Places,
    looking_since: datetime | None,
    now: datetime,
) -> None:
    """Have replaced elsewhere what is lost. What goes wrong with that keeps nobody from being told of the incident."""
    told = losses(incidents, places.findings, now=now, looking_since=looking_since)
    try:
        with transaction.atomic():
            losses_take(organization_id=organization_id, lost=told.lost, unsound=told.unsound, now=now)
    except Exception:
        logger.exception("what organization %s has lost could not be replaced", organization_id)


def _follow(
    organization_id: UUID, watch: IncidentWatch, incidents: Sequence[Incident], places: Places, now: datetime
) -> None:
    """Note what they bring about. What can't be noted is logged, and keeps nobody from being told that they are."""
    try:
        with transaction.atomic():
            watch.event_id = incidents_follow(
                organization_id=organization_id,
                incidents=incidents,
                cluster_id_by_name=places.cluster_id_by_name,
                after_event_id=watch.event_id,
                now=now,
            )
    except Exception:
        logger.exception("what incidents of organization %s bring about could not be noted", organization_id)


def _close(incidents: Iterable[Incident], now: datetime) -> None:
    """Write what is to be told of those that are over, each by itself: there is no other time for it."""
    for row in incidents:
        try:
            with transaction.atomic():
                incident_close(row, now=now)
        except Exception:
            logger.exception("the record of incident %s could not be written", row.pk)


def _watch(organization_id: UUID, now: datetime) -> IncidentWatch:
    """What is remembered; whoever did not look for a while was deaf."""
    watch, is_new = IncidentWatch.objects.get_or_create(organization_id=organization_id)
    if is_new:
        watch.event_id = event_id_newest(organization_id=organization_id)
    if watch.looked_at is None or now - watch.looked_at > PAUSE:
        watch.deaf_until = now + RETURN
        watch.save(update_fields=["deaf_until"])
    return watch


def _known(row: Incident, by_id: Mapping[UUID, Place]) -> Known:
    return Known(
        place=place_of(row),
        state=row.state,  # type: ignore[arg-type]
        severity=row.severity,  # type: ignore[arg-type]
        cause=row.cause,  # type: ignore[arg-type]
        opened_at=row.opened_at,
        since=row.since,
        members=frozenset(Place(kind, name) for kind, name in row.members),
        sound_since=row.sound_since,
        parent=by_id.get(row.parent_id) if row.parent_id else None,
    )


def _store(
    look: _Look, rows: dict[Place, Incident], incidents: Sequence[Known]
) -> list[tuple[Incident, Turn]]:
    """Write what changed; ``rows`` gets those that are new. Parents first, so that others can lie under them."""
    found = {row.place: row for row in look.places.findings}
    turns: list[tuple[Incident, Turn]] = []
    for known in sorted(incidents, key=lambda row: (row.parent is not None, row.place)):
        row = rows.get(known.place)
        is_new = row is None
        if row is None:
            row = rows[known.place] = _new(look, known, found[known.place])
        before = (row.state, row.severity, row.parent_id, row.drill_id)
        held = _image(row)
        row.parent = rows[known.parent] if known.parent is not None else None
        row.state, row.severity, row.cause = known.state, known.severity, known.cause
        row.since, row.sound_since = known.since, known.sound_since
        row.members = [[place.kind, place.name] for place in sorted(known.members)]
        row.resolved_at = look.now if known.state == "resolved" else None
        _mark(look, row, known, is_new=is_new)
        if known.place in found and row.evidence != found[known.place].evidence:
            row.evidence = found[known.place].evidence
        if is_new or _image(row) != held:
            row.save(force_insert=is_new)
        turns += [(row, turn) for turn in _turns(row, before, is_new=is_new)]
    return turns


def _mark(look: _Look, row: Incident, known: Known, *, is_new: bool) -> None:
    """As a drill's, when it is opened; as the next one's or no more, once that drill is no reason for it."""
    if not is_new and row.drill_id is None:
        return
    fault = look.faults.get(row.drill_id) if row.drill_id is not None else None
    if fault is None or not is_drill_still(known, fault, now=look.now):
        behind = drill_behind(known, look.faults.values())
        is_one = behind is not None and is_drill_still(known, behind, now=look.now)
        row.drill_id = UUID(behind.drill_id) if behind is not None and is_one else None


def _image(row: Incident) -> tuple[object, ...]:
    return (
        *(row.state, row.severity, row.cause, row.parent_id, row.since, row.sound_since),
        *(row.drill_id, row.resolved_at, tuple(map(tuple, row.members)), row.evidence),
    )


def _turns(row: Incident, before: tuple[str, str, UUID | None, UUID | None], *, is_new: bool) -> list[Turn]:
    state, severity, parent_id, drill_id = before
    if is_new:
        return ["opened"]
    turns: list[Turn] = []
    if row.parent_id != parent_id:
        turns.append("folded" if row.parent_id is not None else "unfolded")
    if row.severity != severity:
        turns.append("worse")
    if row.drill_id is None and drill_id is not None:
        turns.append("outlived")
    if row.state != state:
        by_state: dict[str, Turn] = {"open": "reopened", "recovering": "recovering", "resolved": "resolved"}
        turns.append(by_state[row.state])
    return turns


def _new(look: _Look, known: Known, finding: Finding) -> Incident:
    """With when it was last heard, and when what was seen of it was enough."""
    places, now = look.places, look.now
    clusters = [place.name for place in known.members if place.kind == "cluster"]
    heard = [places.heard_at[name] for name in clusters if name in places.heard_at]
    evidence_at = now - timedelta(seconds=finding.for_s) if finding.for_s is not None else now
    last_heard_at = max(heard, default=None)
    if known.place == CONTROL_PLANE:
        last_heard_at = places.looked_at
    if last_heard_at is not None and known.cause == "lost" and last_heard_at < now:
        evidence_at = max(evidence_at, last_heard_at)
    before = placements.plan_generation_at(organization_id=look.organization_id, moment=evidence_at)
    return Incident(
        organization_id=look.organization_id,
        kind=known.place.kind,
        name=known.place.name,
        state=known.state,
        severity=known.severity,
        cause=known.cause,
        members=[],
        evidence=finding.evidence,
        last_heard_at=last_heard_at if known.cause in ("lost", "unheard", "away") else None,
        evidence_at=evidence_at,
        opened_at=now,
        since=known.since,
        plan_generation_before=before,
        plan_generation=before,
    )
