"""What the control plane of a world does beside answering events: it searches, learns, keeps to budgets and to room."""

import json
from typing import Any

import pytest

from controlplane.simulation.serving.fields import WorldError
from controlplane.simulation.serving.outcome import PlanTold
from controlplane.simulation.serving.playing import Play
from controlplane.simulation.serving.world import survey
from controlplane.simulation.serving.world_document import world_of
from tests.controlplane.simulation.serving.test_placed_regions import least, placed, plans_of
from tests.controlplane.simulation.serving.test_several_regions import (
    arrivals,
    assert_all_end_once,
    played,
    region,
)


def pools(*rows: tuple[int, float, float, float]) -> list[dict[str, Any]]:
    """Three regions with reserved, spot and on-demand pools: (replicas reserved, and the three prices)."""
    found = []
    for name, (reserved, *prices) in zip(("one", "two", "three"), rows, strict=True):
        kinds = (("r", "reserved", reserved), ("s", "spot", 3), ("d", "on_demand", 5))
        here = [
            {"name": pool, "procurement": kind, "replicas": count, "usd_per_replica_h": usd, "zone": pool}
            for (pool, kind, count), usd in zip(kinds, prices, strict=True)
        ]
        here[1]["hazard_per_h"] = 0.3
        found.append({**region(name), "pools": here})
    return found


#: Of these the first answer is not the best one: it fills what is reserved in ``one`` and rents spot in ``three``.
UNEVEN = pools((5, 3.5, 4.0, 3.1), (6, 2.4, 4.9, 5.2), (1, 4.9, 3.0, 6.0))


def uneven(**placement: Any) -> dict[str, Any]:
    says = {"survivability": "zone", "demand": {"one": 12, "two": 4, "three": 7}, **placement}
    return placed(regions=UNEVEN, placement=says)


def usd_per_h(plan: PlanTold) -> float:
    """What is rented beyond what is reserved."""
    price = {
        f"{each['name']}/{pool['name']}": pool["usd_per_replica_h"]
        for each in UNEVEN
        for pool in each["pools"]
        if pool["procurement"] != "reserved"
    }
    return float(sum(int(bounds.split()[0]) * price.get(pool, 0) for pool, bounds in plan.bounds.items()))


def test_a_search_finds_what_the_first_answer_missed() -> None:
    """After three minutes, and only what saves more than its moves cost; the same each time."""
    outcome = played(uneven(), "kpa")
    assert_all_end_once(outcome)
    found = plans_of(outcome)
    first, second = found.told[:2]
    assert (second.why, second.at_s) == ("a full solve saves 3.900 USD/h", 180)
    assert usd_per_h(second) < usd_per_h(first)
    assert second.moves
    assert (found.searches, found.better) == (2, 1)
    assert outcome == played(uneven(), "kpa")


def test_a_plan_that_is_in_force_is_not_found_again() -> None:
    """All is reserved: places for nobody yet, nearer to clients, are better each time and opened once."""
    reserved = pools((1, 5.1, 1.0, 2.3), (4, 5.6, 4.3, 4.1), (5, 2.4, 2.4, 5.8))
    says = {"survivability": "none", "demand": {"one": 6, "two": 1, "three": 1}}
    found = plans_of(played(placed(regions=reserved, placement=says), "kpa"))
    assert (found.searches, found.better, found.plans) == (2, 1, 2)


def test_a_world_may_do_without_searches() -> None:
    """Then events alone change plans."""
    found = plans_of(played(uneven(search={"every_s": 0}), "static:3"))
    assert (found.searches, found.better, found.plans) == (0, 0, 1)


def test_where_a_wish_was_given_up_the_search_comes_at_once() -> None:
    """Not only when its turn comes; once, for what stays so is no news."""
    crowded = {"survivability": "region", "demand": {"one": 60}, "search": {"every_s": 10_000}}
    assert plans_of(played(placed(placement=crowded), "static:3")).searches == 1


def test_a_budget_bounds_what_is_planned_from_its_moment_on() -> None:
    """What it does not pay for is given up and told; no plan has room for more."""
    budgets = [{"at_s": 100, "usd_per_h": 100}, {"at_s": 200, "usd_per_h": 8}]
    outcome = played(placed(placement={"budget_usd_per_h": budgets, "search": {"every_s": 0}}), "kpa")
    assert outcome.broken == []
    free, lowered = plans_of(outcome).told[0], plans_of(outcome).told[-1]
    assert (lowered.why, lowered.at_s) == ("another budget", 200)
    kept = [sum(least(plan.bounds, name) for name in ("one", "two", "three")) for plan in (free, lowered)]
    assert kept[0] > kept[1] == 2
    assert any("budget" in said for said in lowered.given_up)


def with_spot(usd: float, replicas: int = 6, **pool: Any) -> list[dict[str, Any]]:
    """Two regions on demand, in the first of which there is spot too."""
    spot = {
        "name": "s",
        "procurement": "spot",
        "replicas": replicas,
        "usd_per_replica_h": usd,
        "zone": "s",
        **pool,
    }
    one = region("one")
    return [{**one, "pools": [*one["pools"], spot]}, region("two")]


def on_spot(plan: PlanTold) -> int:
    return int(plan.bounds.get("one/s", "0").split()[0])


def test_plans_reckon_with_what_was_learned_of_spot() -> None:
    """It was a little cheaper than on demand; once all of it was taken back at once it is believed to be dearer."""

    def lines(_: str) -> list[str]:
        return [json.dumps({"metadata": {"gap_seconds": 100}, "data": [6, 0, 6, 6, 6]})]

    document = placed(
        regions=with_spot(3.99, spot_trace="zone.json"),
        round_trip_s={"one": {"two": 0.1}},
        arrivals=arrivals(origin="one"),
        placement={"survivability": "none", "demand": {"one": 4}},
    )
    world = world_of(document)
    *_, seen = survey(world, lines)
    outcome = Play(world, seen, "static:3", lines).run()
    assert_all_end_once(outcome)
    found = plans_of(outcome)
    first, last = found.told[0], found.told[-1]
    assert (on_spot(first), on_spot(last)) == (3, 0)
    assert (last.why, last.at_s) == ("one/s is believed otherwise", 300)
    assert list(found.believed) == ["one/s"]
    assert found.believed["one/s"].startswith("lost 0.0416 times an hour (stated: 0), had 0.")


def test_what_jobs_hold_is_no_room_for_plans() -> None:
    """They hold five of six places of the cheapest pool; what demand adds goes elsewhere until they are done."""
    document = placed(
        regions=with_spot(1),
        round_trip_s={"one": {"two": 0.1}},
        arrivals=[{"kind": "poisson", "requests_per_s": 12, "origin": "one"}],
        placement={"demand": {"one": 0.2}, "survivability": "none"},
        jobs=[{"replica_hours": 0.45, "replicas": 5, "at_s": 1, "deadline_s": 890, "restart_s": 20}],
        hours=0.25,
    )
    document["autoscaling"] |= {"min_replicas": 1}
    outcome = played(document, "kpa")
    assert outcome.broken == []
    assert outcome.jobs[0].done_s == pytest.approx(345, abs=1)
    _, moved, freed = plans_of(outcome).told
    assert (moved.why, moved.bounds["one/s"]) == ("demand moved", "1 to 1")
    assert moved.moves == ["3 start on one/a"]
    assert (freed.why, freed.bounds["one/s"]) == ("jobs hold 0 of one/s", "1 to 6")
    assert freed.moves == ["3 move from one/a to one/s"]


@pytest.mark.parametrize(
    ("says", "said"),
    [
        ({"budget_usd_per_h": -1}, "placement.budget_usd_per_h -1: give a number of 0 or more"),
        ({"budget_usd_per_h": []}, "placement.budget_usd_per_h []: give a list of one or more objects"),
        (
            {"budget_usd_per_h": [{"at_s": 5, "usd_per_h": 1}, {"at_s": 5, "usd_per_h": 2}]},
            "placement.budget_usd_per_h[1].at_s 5.0: give rising times, above 5",
        ),
        (
            {"search": {"every_s": 2}},
            "placement.search.every_s 2.0: give 5 s or more, or 0: it never searches",
        ),
        ({"search": {"rounds": 0}}, "placement.search.rounds 0: give a number of 1 or more, 1000 at most"),
        ({"search": {"left_s": 3}}, "placement.search.left_s 3: no such field"),
    ],
)
def test_what_is_wrong_is_named(says: dict[str, Any], said: str) -> None:
    """By its field, with its value and what to give."""
    with pytest.raises(WorldError) as error:
        world_of(placed(placement=says))
    assert said in str(error.value)
