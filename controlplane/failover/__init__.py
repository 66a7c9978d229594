"""What may only the control plane do when a region is lost, given up or emptied?

``listen(listening, markers, now, policy) -> listening`` says for how long a cluster has been silent;
``promotion(candidates, policy) -> promotion`` which of them is to serve an ``active_passive`` deployment;
``seat_settle(seat, wanted, standings, lease) -> seat`` which may serve it now, so that never two do;
``next_event(facts, now)`` and ``drain_step(state, event)`` how a planned move goes on; ``drill_step(state, event)`` and
``guard(limits, samples, elapsed_s)`` how a drill does; ``drill_report(course, samples, promise,
limits)`` what it has shown;
``findings(clusters, replicas, policy) -> findings`` how every place is, by all who watch it;
``fold(held, suspected, findings, now, policy) -> folded`` which incidents there are: one for each cause;
``drill_behind(incident, drills)`` which of them a drill has brought about;
``losses(incidents, findings, now) -> losses`` whose replicas are to be replaced for them.

Pure: frozen dataclasses in and out, no clock, no randomness, no I/O. Never imports Django, ``apps`` or the rooms that
load and apply what is decided here.
"""

from controlplane.failover.drain import (
    DRAIN_STATES,
    ENDED,
    IN_FORCE,
    DrainEvent,
    DrainFacts,
    DrainState,
    begins_at,
    drain_step,
    expected_s,
    next_event,
)
from controlplane.failover.drill import (
    DRILL_KINDS,
    DRILL_METHODS,
    DRILL_OPEN,
    DRILL_STATES,
    METHODS,
    DrillEvent,
    DrillKind,
    DrillLimits,
    DrillMethod,
    DrillState,
    Sample,
    drill_step,
    guard,
    takes_capacity,
)
from controlplane.failover.drill_report import (
    NOTHING_LOST,
    DrillCourse,
    DrillPromise,
    DrillReport,
    drill_report,
)
from controlplane.failover.drill_schedule import next_window
from controlplane.failover.drilled import DrillFault, drill_behind, is_drill_still
from controlplane.failover.findings import (
    ClusterEvidence,
    Finding,
    Health,
    JudgementPolicy,
    PlaceState,
    PlaneEvidence,
    ReplicaEvidence,
    Word,
    findings,
)
from controlplane.failover.folding import Folded, FoldPolicy, fold
from controlplane.failover.handover import Seat, Standing, Yielding, has_yielded, seat_fenced, seat_settle
from controlplane.failover.incident import (
    CAUSES,
    CONTROL_PLANE,
    INCIDENT_STATES,
    PLACE_KINDS,
    Incident,
    IncidentState,
    Place,
    PlaceKind,
    Severity,
    incident_step,
)
from controlplane.failover.losses import REPLACE_AFTER_S, Losses, losses
from controlplane.failover.promotion import Candidate, Cause, Promotion, PromotionPolicy, promotion
from controlplane.failover.silence import Heard, Listening, ListeningPolicy, listen

__all__ = [
    "CAUSES",
    "CONTROL_PLANE",
    "DRAIN_STATES",
    "DRILL_KINDS",
    "DRILL_METHODS",
    "DRILL_OPEN",
    "DRILL_STATES",
    "ENDED",
    "INCIDENT_STATES",
    "IN_FORCE",
    "METHODS",
    "NOTHING_LOST",
    "PLACE_KINDS",
    "REPLACE_AFTER_S",
    "Candidate",
    "Cause",
    "ClusterEvidence",
    "DrainEvent",
    "DrainFacts",
    "DrainState",
    "DrillCourse",
    "DrillEvent",
    "DrillFault",
    "DrillKind",
    "DrillLimits",
    "DrillMethod",
    "DrillPromise",
    "DrillReport",
    "DrillState",
    "Finding",
    "FoldPolicy",
    "Folded",
    "Health",
    "Heard",
    "Incident",
    "IncidentState",
    "JudgementPolicy",
    "Listening",
    "ListeningPolicy",
    "Losses",
    "Place",
    "PlaceKind",
    "PlaceState",
    "PlaneEvidence",
    "Promotion",
    "PromotionPolicy",
    "ReplicaEvidence",
    "Sample",
    "Seat",
    "Severity",
    "Standing",
    "Word",
    "Yielding",
    "begins_at",
    "drain_step",
    "drill_behind",
    "drill_report",
    "drill_step",
    "expected_s",
    "findings",
    "fold",
    "guard",
    "has_yielded",
    "incident_step",
    "is_drill_still",
    "listen",
    "losses",
    "next_event",
    "next_window",
    "promotion",
    "seat_fenced",
    "seat_settle",
    "takes_capacity",
]
