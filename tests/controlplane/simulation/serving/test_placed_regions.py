"""Regions whose bounds placement gives: moved with demand, losses and drains, kept while the control plane is away."""

from typing import Any

import pytest

from controlplane.simulation.serving.fields import WorldError
from controlplane.simulation.serving.outcome import Outcome, PlacementOutcome
from controlplane.simulation.serving.report import html_report
from controlplane.simulation.serving.results import as_json, outcomes_in
from controlplane.simulation.serving.world_document import world_of
from tests.controlplane.simulation.serving.test_several_regions import (
    apart,
    assert_all_end_once,
    lost,
    played,
    region,
)
from tests.controlplane.simulation.serving.worlds import seen_of


def placed(**fields: Any) -> dict[str, Any]:
    """Three regions, three replicas kept in all, of which two may be anywhere and any region may be lost."""
    says = {"survivability": "region", "demand": {"one": 4, "two": 4}, **fields.pop("placement", {})}
    shared = {"min_replicas": 3, "max_replicas": 12, "target_utilisation": 0.8, "scale_down_delay_s": 60}
    return apart(autoscaling=shared, placement=says, **fields)


def plans_of(outcome: Outcome) -> PlacementOutcome:
    assert outcome.placement is not None
    return outcome.placement


def least(bounds: dict[str, str], name: str) -> int:
    """That are kept ready in a region's pool."""
    return int(bounds.get(f"{name}/a", "0").split()[0])


def test_placement_parts_a_deployment_among_regions() -> None:
    """Once where nothing happens; the deployment's bounds are those of all regions together."""
    outcome = played(placed(), "kpa")
    assert_all_end_once(outcome)
    (plan,) = plans_of(outcome).told
    assert plan.why == "the beginning"
    assert sum(least(plan.bounds, name) for name in ("one", "two", "three")) >= 3
    assert (plan.moves, plan.given_up) == ([], [])
    assert outcome.procurement == "placed"
    assert outcome == played(placed(), "kpa")


def test_what_a_lost_region_had_is_placed_elsewhere_after_half_a_minute() -> None:
    """And comes back to where it is cheaper once that has been sound for a minute."""
    document = placed(hours=0.15, failures=lost("one", 100, 250))
    document["regions"][0]["pools"][0]["usd_per_replica_h"] = 1
    outcome = played(document, "kpa")
    assert_all_end_once(outcome)
    gone, back = plans_of(outcome).told[1:3]
    assert gone.why == "one is lost"
    assert 130 <= gone.at_s <= 135
    assert least(gone.bounds, "one") == 0
    assert any("one/a" in move for move in gone.moves)
    assert back.why == "one is back"
    assert 310 <= back.at_s <= 315
    assert plans_of(outcome).moved > 0


def test_while_the_control_plane_is_away_bounds_stay() -> None:
    """Nothing is planned; the loss is found half a minute after its return."""
    fails = {**lost("one", 100, 300), "plane_lost": [{"at_s": 90, "back_s": 200}]}
    outcome = played(placed(failures=fails), "kpa")
    assert_all_end_once(outcome)
    assert [230 <= plan.at_s <= 235 for plan in plans_of(outcome).told[1:2]] == [True]
    for_ever = {**lost("one", 100, None), "plane_lost": [{"at_s": 90}]}
    alone = played(placed(failures=for_ever), "kpa")
    assert_all_end_once(alone)
    assert plans_of(alone).plans == 1


def test_bounds_follow_the_demand_that_usage_shows() -> None:
    """Stated is a trickle; after the first five minutes the plan is for what comes."""
    says = {"survivability": "none", "demand": {"one": 0.2}}
    levels = [{"at_s": 0, "requests_per_s": 12}]
    crowd = [{"kind": "steps", "levels": levels, "origin": "one"}]
    outcome = played(placed(arrivals=crowd, placement=says, hours=0.12), "kpa")
    assert [(plan.why, plan.at_s) for plan in plans_of(outcome).told[1:]] == [("demand moved", 300.0)]
    calm = played(placed(arrivals=crowd, placement={**says, "demand": {"one": 12}}, hours=0.12), "kpa")
    assert plans_of(calm).plans == 1


def test_a_pool_that_is_emptied_is_left_once_others_have_taken_over() -> None:
    """No request is lost, and at its end nothing runs there."""
    first = plans_of(played(placed(), "static:3")).told[0].bounds
    name = next(iter(first)).split("/")[0]
    says = {"emptied": [{"region": name, "pool": "a", "at_s": 60}]}
    outcome = played(placed(placement=says), "static:3")
    assert_all_end_once(outcome)
    assert plans_of(outcome).told[1].why == f"{name}/a is being emptied"
    moments = next(each.moments for each in outcome.regions if each.region == name)
    ready = {at_s: next(one.ready for one in moments if one.at_s >= at_s) for at_s in (70, 85, 200)}
    assert ready[70] == ready[85] == least(first, name)  # its successors start for half a minute
    assert ready[200] == 0
    assert sum(each.moments[-1].ready for each in outcome.regions) >= 3


def test_what_cannot_be_kept_is_given_up_and_told() -> None:
    """Two regions with a place each survive no loss with three replicas."""
    small = [region("one", 2), region("two", 1)]
    document = placed(placement={"demand": {"one": 8}})
    document |= {"regions": small, "round_trip_s": {"one": {"two": 0.1}}}
    document["autoscaling"] = {"min_replicas": 3, "max_replicas": 3}
    outcome = played(document, "kpa")
    plan = plans_of(outcome).told[0]
    assert any("region" in said for said in plan.given_up)
    world = world_of(document)
    page = html_report(world, seen_of(world), [outcome], "d" * 64)
    assert "<h2>Placement</h2>" in page
    text = as_json(world, seen_of(world), [outcome], "abc")
    assert outcomes_in(text.encode(), "abc") == {"kpa": outcome}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"placement": {"survivability": "moon"}}, "placement.survivability 'moon': give one of: none, zone"),
        ({"placement": {"demand": {"mars": 1}}}, "placement.demand.mars: nobody is there; give regions"),
        ({"placement": {"command_s": -1}}, "placement.command_s -1: give a number of 0 or more"),
        ({"placement": {"colour": 1}}, "placement.colour 1: no such field"),
        (
            {"placement": {"emptied": [{"region": "one", "pool": "b", "at_s": 1}]}},
            "placement.emptied[0].pool 'b': give one of: a",
        ),
        ({"procurement": {"kind": "blend"}}, "procurement: placement says from which pools; leave it away"),
        ({"regions": [region("one", 12)], "round_trip_s": {}}, "placement: it places among several clusters"),
        (
            {"regions": [region("one"), region("two", autoscaling={}), region("three")]},
            "regions[1].autoscaling: placement says what runs where; leave it away",
        ),
        (
            {"failures": {"plane_lost": [{"at_s": 9, "back_s": 3}]}},
            "failures.plane_lost[0].back_s 3.0: give more than at_s 9",
        ),
        (
            {"failures": {"plane_lost": [{"at_s": 9}, {"at_s": 11}]}},
            "failures.plane_lost[1].at_s 11.0: it is away then already",
        ),
    ],
)
def test_what_is_wrong_with_placement_is_named(fields: dict[str, Any], said: str) -> None:
    """By its field, with its value and what to give."""
    with pytest.raises(WorldError) as error:
        world_of({**placed(), **fields} if "placement" not in fields else placed(**fields))
    assert said in str(error.value)


def test_a_control_plane_that_nobody_has_cannot_be_away() -> None:
    """Bounds that stay as they are need none."""
    with pytest.raises(WorldError, match=r"plane_lost\[0\]: this world has no control plane; give placement"):
        world_of(apart(failures={"plane_lost": [{"at_s": 9}]}))
