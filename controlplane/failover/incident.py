"""What an incident is, and how it goes on: one table of transitions.

::

    open ◀──failing── recovering ──settled──▶ resolved
      └─────recovering────▲

An incident is of one cause: the topmost place that fails. What fails below it is a part of it (``members``), and an
incident that was there before is folded under it (``parent``). It recovers when nothing of it fails and all of it is
on its way back; it is resolved when all of it has been sound for a while. Who is not heard of is not sound.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, get_args

from workloadplane.protocol.refusal import Refusal

PlaceKind = Literal["replica", "pool", "cluster", "region", "provider", "control_plane"]
Severity = Literal["warning", "error"]
Cause = Literal[
    "lost",  # a majority of all that watch it has lost it
    "unheard",  # its agents are not heard, though others may reach it
    "cut_off",  # some that watch it have lost it, and no majority
    "fenced",  # two agents speak for it
    "no_gateway",  # its agent has no gateway
    "unkept",  # its agent's disk takes nothing
    "away",  # the control plane looked at nothing for a while
    "replicas",  # its replicas fail
]
IncidentState = Literal["open", "recovering", "resolved"]
IncidentEvent = Literal[
    "failing",  # a part of it fails
    "recovering",  # nothing of it fails, and all of it is heard of
    "settled",  # all of it has been sound for long enough
]

PLACE_KINDS: Final[tuple[PlaceKind, ...]] = get_args(PlaceKind)
CAUSES: Final[tuple[Cause, ...]] = get_args(Cause)
INCIDENT_STATES: Final[tuple[IncidentState, ...]] = get_args(IncidentState)

TRANSITIONS: Final[dict[tuple[IncidentState, IncidentEvent], IncidentState]] = {
    ("open", "recovering"): "recovering",
    ("recovering", "failing"): "open",
    ("recovering", "settled"): "resolved",
}

#: Severity by cause: of an error somebody is woken. One that the control plane alone does not hear may serve on, and
#: one whose disk takes nothing does; so did all while the control plane was away, when that can be told.
SEVERITY_BY_CAUSE: Final[dict[Cause, Severity]] = {
    "lost": "error",
    "unheard": "warning",
    "cut_off": "warning",
    "fenced": "error",
    "no_gateway": "error",
    "unkept": "warning",
    "away": "warning",
    "replicas": "warning",
}


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """What may fail.

    name: of a provider, region or cluster, ``cluster/pool``, ``cluster/pool/deployment id``, of ``CONTROL_PLANE``
    """

    kind: PlaceKind
    name: str

    def __str__(self) -> str:
        return self.name if self.kind == "control_plane" else f"{self.kind} {self.name}"


CONTROL_PLANE: Final = Place("control_plane", "control plane")


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """One cause, from its first failure until all is sound again.

    place:       what failed; of one place at most one incident is not resolved
    since:       of this state; sound_since: of all its members, None while one is not
    members:     all places that failed in it, itself included
    parent:      the place of the incident that it is folded under
    """

    place: Place
    state: IncidentState
    severity: Severity
    cause: Cause
    opened_at: datetime
    since: datetime
    members: frozenset[Place]
    sound_since: datetime | None = None
    parent: Place | None = None


def incident_step(state: IncidentState, event: IncidentEvent) -> IncidentState | Refusal:
    """The state that follows, or why this one does not know the event."""
    after = TRANSITIONS.get((state, event))
    if after is not None:
        return after
    known = sorted(name for held, name in TRANSITIONS if held == state)
    return Refusal(
        rule="incident_transition",
        subject=f"an incident that is {state}",
        value=event,
        remedy=f"it knows {', '.join(known)}" if known else "nothing follows this state; the next one is new",
    )
