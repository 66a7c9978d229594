"""Which incidents are a drill's: in its time, where it is, and for no longer."""

from dataclasses import replace
from datetime import timedelta

import pytest

from controlplane.failover import CONTROL_PLANE, DrillFault, Incident, Place, drill_behind, is_drill_still
from controlplane.failover.drilled import TRACES
from tests.controlplane.failover.test_incidents import NOON

SECOND = timedelta(seconds=1)
LOST = DrillFault(
    drill_id="1",
    kind="lose-region",
    clusters=frozenset({"us-east"}),
    began_at=NOON,
    ended_at=NOON + 20 * SECOND,
)
REGION, CLUSTER, POOL = (
    Place("region", "us-east4"),
    Place("cluster", "us-east"),
    Place("pool", "us-east/main"),
)
OTHER = Place("replica", "eu-west/main/chat")


def incident(*members: Place, **fields: object) -> Incident:
    values = {
        "place": members[0], "state": "open", "severity": "error", "cause": "lost", "opened_at": NOON,
        "since": NOON + 2 * SECOND, "members": frozenset(members),
    }  # fmt: skip
    return Incident(**(values | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("drill", "seen", "is_its"),
    [
        (LOST, incident(REGION, CLUSTER), True),
        (LOST, incident(POOL), True),
        (LOST, incident(REGION, CLUSTER, OTHER), False),
        (LOST, incident(OTHER), False),
        (LOST, incident(CLUSTER, since=NOON - SECOND), False),
        (LOST, incident(CLUSTER, since=NOON + 20 * SECOND + TRACES), True),
        (LOST, incident(CLUSTER, since=NOON + 21 * SECOND + TRACES), False),
        (replace(LOST, ended_at=None), incident(CLUSTER, since=NOON + timedelta(hours=1)), True),
        (LOST, incident(CONTROL_PLANE, cause="away"), False),
        (replace(LOST, kind="lose-control-plane", clusters=frozenset()), incident(CONTROL_PLANE), True),
        (replace(LOST, kind="lose-control-plane", clusters=frozenset()), incident(CLUSTER), False),
        (
            replace(LOST, kind="partition-two-way"),
            incident(Place("cluster", "eu-west"), cause="cut_off"),
            True,
        ),
        (replace(LOST, kind="partition-two-way"), incident(Place("cluster", "eu-west")), False),
    ],
)
def test_a_drill_explains_what_fails_where_it_is_while_it_lasts(
    drill: DrillFault, seen: Incident, is_its: bool
) -> None:
    """All of it has to lie there; somebody else's failure beside it keeps the mark away."""
    assert (drill_behind(seen, [drill]) is not None) == is_its


def test_traces_of_one_drill_are_not_taken_for_the_next_one() -> None:
    """The last that began is the reason."""
    later = replace(LOST, drill_id="2", began_at=NOON + 30 * SECOND, ended_at=None)
    seen = incident(CLUSTER, since=NOON + 32 * SECOND)
    assert drill_behind(seen, [later, LOST]) == drill_behind(seen, [LOST, later]) == later


def test_a_mark_goes_where_the_drill_is_no_reason_any_more() -> None:
    """Not while it is on its way back, however long that takes."""
    over = NOON + 21 * SECOND + TRACES
    assert is_drill_still(incident(CLUSTER), LOST, now=NOON + 30 * SECOND)
    assert not is_drill_still(incident(CLUSTER), LOST, now=over)
    assert is_drill_still(incident(CLUSTER, state="recovering"), LOST, now=over)
    assert not is_drill_still(incident(CLUSTER, OTHER), LOST, now=NOON + 3 * SECOND)
