"""One region serves by a lease while others stand by: who takes over, when nobody serves, and that never two do."""

from random import Random
from typing import Any

import pytest

from apps.agents import leases
from apps.agents.wire import watch
from controlplane.simulation.serving import seats
from controlplane.simulation.serving.fields import WorldError
from controlplane.simulation.serving.outcome import Outcome, SeatsOutcome
from controlplane.simulation.serving.report import html_report
from controlplane.simulation.serving.world_document import world_of
from tests.controlplane.simulation.serving.test_several_regions import (
    apart,
    assert_all_end_once,
    lost,
    played,
    region,
)
from tests.controlplane.simulation.serving.worlds import seen_of


def passive(per_s: float = 3, **fields: Any) -> dict[str, Any]:
    """Three regions of which the first serves; requests for four minutes."""
    levels = [{"at_s": 0, "requests_per_s": per_s}, {"at_s": 240, "requests_per_s": 0}]
    crowd = [{"kind": "steps", "levels": levels}]
    return apart(**{"posture": "active_passive", "hours": 0.08, "arrivals": crowd, **fields})


def seats_of(outcome: Outcome) -> SeatsOutcome:
    assert outcome.seats is not None
    return outcome.seats


def serving(outcome: Outcome) -> list[str]:
    return [told.region for told in seats_of(outcome).told]


def test_one_region_serves_all_while_nothing_happens() -> None:
    """The others keep their least warm, and serve nobody."""
    outcome = played(passive(), "kpa")
    assert_all_end_once(outcome)
    one, two, three = outcome.regions
    assert serving(outcome) == ["one"]
    assert seats_of(outcome).nobody_s == 0
    assert (one.spilled, two.spilled, three.spilled) == (0, 1, 1)
    assert outcome.within_slo == 1
    assert two.replica_hours == three.replica_hours == pytest.approx(2 * 0.08)


@pytest.mark.parametrize("kind", ["lost", "frozen"])
def test_a_standby_takes_over_within_eight_seconds_and_stays(kind: str) -> None:
    """What is asked of who may be gone is refused; who was lost stands by when it is back, and serves nobody before."""
    outcome = played(passive(failures=lost("one", 100, 200, kind)))
    assert_all_end_once(outcome)
    _, nobody, two = seats_of(outcome).told
    assert (nobody.region, two.region, two.cause) == ("", "two", "silent")
    assert 5 <= two.at_s - nobody.at_s <= 8
    assert seats_of(outcome).nobody_s == pytest.approx(two.at_s - nobody.at_s)
    assert 0 < outcome.not_served <= 3 * 9 + 10
    both = played({**passive(failures=lost("one", 100, 200, kind)), "posture": "active_active"})
    assert both.not_served == 0


def test_without_its_control_plane_the_region_that_serves_stops_after_its_lease() -> None:
    """It fails closed; a second's absence is nobody's loss."""
    away = played(passive(failures={"plane_lost": [{"at_s": 100, "back_s": 130}]}))
    assert_all_end_once(away)
    assert serving(away) == ["one", "", "one"]
    assert 30 - 6 <= seats_of(away).nobody_s <= 30 + 10
    assert away.not_served > 0
    short = played(passive(failures={"plane_lost": [{"at_s": 100, "back_s": 101}]}))
    assert serving(short) == ["one"]
    assert short.not_served == 0


def test_placement_names_who_serves_and_who_stands_by() -> None:
    """A pool that is emptied hands the seat over: the next one is ready before, the gap is a moment."""
    shared = {"min_replicas": 2, "max_replicas": 8, "scale_down_delay_s": 60}
    says = {"survivability": "region", "demand": {"one": 9}}
    fields: dict[str, Any] = {"autoscaling": shared, "placement": says}
    outcome = played(passive(**fields), "kpa")
    assert_all_end_once(outcome)
    assert outcome.placement is not None
    bounds = outcome.placement.told[0].bounds
    stands_by = [name for name, said in bounds.items() if said.endswith("stands by")]
    (serves,) = {name.split("/")[0] for name in bounds if name not in stands_by}
    assert stands_by
    assert serving(outcome) == [serves]
    emptied = [{"region": serves, "pool": "a", "at_s": 60}]
    fields["placement"] = {**says, "emptied": emptied}
    moved = played(passive(**fields), "kpa")
    assert_all_end_once(moved)
    assert serving(moved)[0] == serves
    assert serving(moved)[-1] not in ("", serves)
    assert seats_of(moved).nobody_s < 2


@pytest.mark.parametrize("seed", range(4))
def test_never_two_serve(seed: int) -> None:
    """Whatever is lost, frozen or away, in any order; every request ends once."""
    rng = Random(seed)
    gone = [
        {"region": name, "at_s": at_s, "back_s": at_s + rng.uniform(10, 60), "kind": kind}
        for name in ("one", "two", "three")
        for at_s, kind in ((rng.uniform(20, 160), rng.choice(("lost", "frozen"))),)
    ]
    away_s = rng.uniform(20, 150)
    fails = {"regions_lost": gone, "plane_lost": [{"at_s": away_s, "back_s": away_s + rng.uniform(1, 20)}]}
    outcome = played(passive(2, seed=seed, failures=fails))
    assert_all_end_once(outcome)
    assert len(serving(outcome)) > 1


def test_the_checker_sees_two_that_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gateways that go by their lease for too long: one that was frozen serves on when it is back."""
    monkeypatch.setattr(seats, "HARD_TTL_S", 60.0)
    broken = played(passive(failures=lost("one", 100, 130, "frozen"))).broken
    assert [each.split(":")[0] for each in broken] == ["rule 6"]


def test_leases_are_those_of_the_control_plane() -> None:
    """The same numbers, in modules that need not be installed where worlds are played."""
    assert seats.HARD_TTL_S == leases.HARD_TTL_S
    assert seats.SERVING_LEASE_S == leases.SERVING_LEASE_S
    assert seats.HEARD_S == leases.HEARD_S
    assert seats.LOOK_S == watch.LOOK_S


def test_the_report_tells_who_served() -> None:
    """And for how long nobody did."""
    world = world_of(passive(failures=lost("one", 100, 200)))
    page = html_report(world, seen_of(world), [played(passive(failures=lost("one", 100, 200)))], "d" * 64)
    assert "<h2>Who served</h2>" in page
    assert "silent" in page


def test_a_posture_needs_somebody_to_stand_by() -> None:
    """Two regions with pools; a posture that there is."""
    with pytest.raises(WorldError, match="posture 'active_passive': give two regions with pools"):
        world_of(passive(regions=[region("one")], round_trip_s={}))
    with pytest.raises(WorldError, match="posture 'both': give one of: active_active, active_passive"):
        world_of(passive(posture="both"))
