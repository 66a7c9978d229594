"""Several regions side by side: who is served where, what a lost one does to its clients, and what never happens."""

import copy
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from controlplane.simulation.serving import between, neighbours, region_cluster
from controlplane.simulation.serving.fields import WorldError
from controlplane.simulation.serving.outcome import Outcome
from controlplane.simulation.serving.report import html_report
from controlplane.simulation.serving.results import as_json, outcomes_in, summary_csv, timeline_csv
from controlplane.simulation.serving.world_document import world_of
from tests.controlplane.simulation.serving.worlds import DOCUMENT, outcomes, seen_of
from workloadplane.gateway import loads, recovering, regions, turns
from workloadplane.health.outlook import Sighting
from workloadplane.routing import PeerFacts, Snapshot, pick

ROUND_TRIPS = {"one": {"two": 0.1, "three": 0.2}, "two": {"three": 0.15}}


def region(name: str, replicas: int = 8, **fields: Any) -> dict[str, Any]:
    """A region with one pool."""
    pool = {"name": "a", "procurement": "on_demand", "replicas": replicas, "usd_per_replica_h": 4}
    return {"name": name, "jurisdiction": name, "pools": [pool], **fields}


def apart(*named: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Seven minutes of the small world in three regions, or in these. Nothing arrives in the last one."""
    shared = {name: value for name, value in DOCUMENT.items() if name != "pools"}
    return {
        **shared,
        "hours": 0.12,
        "arrivals": arrivals(),
        "autoscaling": {"min_replicas": 2, "target_utilisation": 0.8, "scale_down_delay_s": 60},
        "regions": list(named) or [region("one"), region("two"), region("three")],
        "round_trip_s": copy.deepcopy(ROUND_TRIPS),
        **fields,
    }


def arrivals(per_s: float = 4, **fields: Any) -> list[dict[str, Any]]:
    """As many until six minutes have gone by."""
    levels = [{"at_s": 0, "requests_per_s": per_s}, {"at_s": 360, "requests_per_s": 0}]
    return [{"kind": "steps", "levels": levels, **fields}]


def played(document: dict[str, Any], policy: str = "static:4") -> Outcome:
    """What comes of it."""
    return next(outcomes(world_of(document), policy))


def lost(name: str, at_s: float = 120, back_s: float | None = 300, kind: str = "lost") -> dict[str, Any]:
    """One region gone."""
    when = {"at_s": at_s} if back_s is None else {"at_s": at_s, "back_s": back_s}
    return {"gpu_failures_per_gpu_h": 0, "regions_lost": [{"region": name, "kind": kind, **when}]}


def assert_all_end_once(outcome: Outcome) -> None:
    """Each request is answered or refused, and no rule was broken."""
    assert outcome.broken == []
    assert sum(each.requests for each in outcome.regions) == outcome.requests
    for each in outcome.regions:
        assert each.answered + each.not_served == each.requests, each.region


def test_a_world_of_one_region_is_the_same_however_it_is_written() -> None:
    """To the last digit, with all that breaks."""
    fails = {"gpus_per_replica": 8, "gpu_failures_per_gpu_h": 5, "zones_lost": 1, "regions_lost": 1}
    alone = {**DOCUMENT, "hours": 0.04, "mode": "request", "failures": fails}
    as_region = {name: value for name, value in alone.items() if name != "pools"}
    as_region["regions"] = [{"name": "here", "pools": DOCUMENT["pools"]}]
    for policy in ("kpa", "predictive"):
        assert played(alone, policy) == played(as_region, policy)


def test_each_region_serves_its_own_while_it_can() -> None:
    """Nobody is sent away, and the figures of all are those of the regions together."""
    outcome = played(apart())
    assert_all_end_once(outcome)
    assert outcome.spilled == 0
    assert outcome.within_slo == 1
    assert outcome.within_slo_during is None
    assert outcome.usd == pytest.approx(sum(each.usd for each in outcome.regions))
    assert outcome.replica_hours == pytest.approx(3 * 4 * 0.12)
    assert {each.ejections for each in outcome.regions} == {0}
    assert outcome == played(apart())


def test_a_lost_region_is_served_by_the_others() -> None:
    """With head-room elsewhere at least 99 % are within the SLO; streams go on; both others eject it."""
    outcome = played(apart(failures=lost("one")))
    assert_all_end_once(outcome)
    one, two, three = outcome.regions
    assert outcome.within_slo_during is not None
    assert outcome.within_slo_during >= 0.99
    assert outcome.within_slo_outside == 1
    assert outcome.resumed > 0
    assert (one.lost_replicas, two.lost_replicas, three.lost_replicas) == (4, 0, 0)
    assert one.spilled > 0.2
    assert two.spilled == three.spilled == 0
    assert (one.ejections, two.ejections, three.ejections) == (2, 0, 0)
    ready = {at_s: next(each.ready for each in one.moments if each.at_s >= at_s) for at_s in (100, 200, 420)}
    assert ready == {100: 4, 200: 0, 420: 4}


def test_a_frozen_region_has_its_replicas_when_it_goes_on() -> None:
    """Nothing is launched anew, and what was in them has gone elsewhere."""
    outcome = played(apart(failures=lost("one", kind="frozen")))
    assert_all_end_once(outcome)
    one = outcome.regions[0]
    assert (one.lost_replicas, one.launches) == (0, 0)
    assert one.ejections == 2
    assert one.replica_hours == pytest.approx(4 * 0.12)
    assert outcome.resumed > 0
    assert outcome.within_slo >= 0.99


def test_a_region_that_does_not_come_back_has_nothing_any_more() -> None:
    """Its clients stay with the others."""
    outcome = played(apart(failures=lost("one", back_s=None)))
    assert_all_end_once(outcome)
    one = outcome.regions[0]
    assert one.replica_hours == pytest.approx(4 * 120 / 3600)
    assert one.moments[-1].ready == 0
    assert outcome.within_slo >= 0.99


def test_clients_wait_until_the_edge_leads_elsewhere() -> None:
    """As long as it takes to notice, and a round trip."""
    late = {"arrivals": arrivals(5, origin="one"), "slo": {"wait_s": 1}, "edge": {"detect_s": 20}}
    outcome = played(apart(**late, failures=lost("one", at_s=100)))
    waited = (1 - outcome.within_slo) * outcome.requests
    assert waited == pytest.approx(20 * 5, rel=0.25)
    quick = played(apart(**{**late, "edge": {"detect_s": 0.5}}, failures=lost("one", at_s=100)))
    assert quick.within_slo > 0.999


def test_where_no_gateway_answers_clients_try_until_they_give_up() -> None:
    """And are served once one is back in time."""
    named = [region("one"), region("two")]
    fields = {"round_trip_s": {"one": {"two": 0.1}}, "gateway": {"hold_timeout_s": 30}}
    both = {
        **lost("one"),
        "regions_lost": [
            {"region": each, "at_s": 120, "back_s": 200, "kind": "frozen"} for each in ("one", "two")
        ],
    }
    outcome = played(apart(*named, **fields, failures=both))
    assert outcome.broken == []
    assert outcome.not_served == pytest.approx(4 * 50, rel=0.25)
    assert outcome.within_slo_outside == 1


def test_trust_in_a_region_that_was_lost_comes_back_rung_by_rung() -> None:
    """Silent for five seconds it gets nothing; then 1, 5, 25 and 100 % of what would go there."""
    peers = {name: PeerFacts(name, name, "", 10.0, admits="sessions") for name in ("two", "three")}
    gateway = neighbours.Neighbours(peers, "revision")
    lost_too = {"two": Sighting("lost", 3.0)}
    seen: list[tuple[str, float]] = []
    for tick in range(700):
        now_s = tick * between.TICK_S
        if tick % 8 == 0:
            is_silent = 5.0 <= now_s < 10.0
            gateway.sees("three", lost_too if is_silent else {}, asked_s=now_s, now_s=now_s)
            if not is_silent:
                gateway.sees("two", {}, asked_s=now_s, now_s=now_s)
        gateway.tick(now_s)
        facts = gateway.facts["two"]
        if not seen or seen[-1] != (facts.admits, facts.share):
            seen.append((facts.admits, facts.share))
    assert ("all", 1.0) in seen[:2]
    assert ("none", 0.0) in seen
    assert seen[seen.index(("none", 0.0)) + 1 :] == [("all", share) for share in (0.01, 0.05, 0.25, 1.0)]
    assert (gateway.ejections["two"], gateway.ejections["three"]) == (1, 0)
    assert gateway.is_at_rest(set())


def test_what_a_region_has_no_seats_for_goes_where_the_first_token_comes_sooner() -> None:
    """One is small and crowded, another has room: by the gateway's own choice, with the way counted."""
    crowd = arrivals(6, origin="one")
    named = [region("one", 1, autoscaling={"min_replicas": 1, "max_replicas": 1}), region("two")]
    ways = {"round_trip_s": {"one": {"two": 0.4}}}
    outcome = played(apart(*named, arrivals=crowd, **ways), "kpa")
    assert_all_end_once(outcome)
    one = outcome.regions[0]
    assert 0.2 < one.spilled < 0.9
    assert one.within_slo > 0.99
    assert one.ttft_s_p99 is not None
    assert one.ttft_s_p99 >= 0.4
    assert one.ttft_s_p50 is not None
    alone = played({**apart(named[0], arrivals=crowd), "round_trip_s": {}}, "kpa")
    assert alone.within_slo < 0.7


def test_requests_never_leave_their_jurisdiction() -> None:
    """Not though it is lost, and clients of other regions are served in it; the way is in each first token."""
    named = [region("one"), region("two"), {"name": "three", "jurisdiction": "three"}]
    outcome = played(apart(*named, residency=["one", "two"], failures=lost("one")))
    assert_all_end_once(outcome)
    three = outcome.regions[2]
    assert (three.spilled, three.replica_hours) == (1, 0)
    assert three.ttft_s_p50 is not None
    assert three.ttft_s_p50 >= 0.15
    assert outcome.within_slo_during is not None
    assert outcome.within_slo_during >= 0.99


def test_the_checker_sees_a_request_outside_of_its_residency(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that forgets it is told of; one that does not serves nobody."""
    whole = world_of(apart(hours=0.01))
    nowhere = replace(whole, geography=replace(whole.geography, residency=frozenset({"mars"})))
    kept = next(outcomes(nowhere, "static:4"))
    assert (kept.not_served, kept.broken) == (kept.requests, [])

    def forgets(facts: Any, snapshot: Snapshot, *rest: Any) -> Any:
        return pick(facts, replace(snapshot, residency=frozenset()), *rest)

    monkeypatch.setattr(region_cluster, "pick", forgets)
    broken = next(outcomes(nowhere, "static:4")).broken
    assert [each.split(" (")[0] for each in broken] == [
        f"{name}: rule 2: a request is served in {name}" for name in ("one", "two", "three")
    ]


def _drawn(seed: int) -> dict[str, Any]:
    """Two to four regions of all sizes, any distance apart, some of which are lost."""
    rng = Random(seed)
    names = ["one", "two", "three", "four"][: rng.randint(2, 4)]
    named = [
        region(
            name,
            rng.randint(1, 6),
            share=rng.uniform(0.2, 3),
            autoscaling={"min_replicas": rng.randint(0, 1)},
        )
        for name in names
    ]
    trips = {
        one: {other: rng.choice((0.0, 0.02, 0.3)) for other in names[number + 1 :]}
        for number, one in enumerate(names)
    }
    gone = [
        {
            "region": name,
            "at_s": at_s,
            "back_s": at_s + rng.uniform(10, 90),
            "kind": rng.choice(("lost", "frozen")),
        }
        for name in names
        if rng.random() < 0.7
        for at_s in (rng.uniform(0, 120),)
    ]
    residency = rng.sample(names, len(names) - 1) if seed % 2 else []
    for each in named:
        if residency and each["name"] not in residency:
            del each["pools"], each["autoscaling"]
    levels = [{"at_s": 0, "requests_per_s": rng.uniform(1, 8)}, {"at_s": 180, "requests_per_s": 0}]
    fails = {"gpus_per_replica": 8, "gpu_failures_per_gpu_h": rng.choice((0, 0.3)), "regions_lost": gone or 1}
    return apart(
        *named,
        seed=seed,
        hours=0.14,
        arrivals=[{"kind": "steps", "levels": levels}],
        round_trip_s={one: others for one, others in trips.items() if others},
        failures=fails,
        residency=residency,
        gateway={"hold_timeout_s": 60, "hold_requests_max": rng.choice((20, 10_000))},
    )


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_lost_all_end_once_and_inside(seed: int) -> None:
    """No request is lost, ends twice, is passed on twice, or is served outside of its residency or by the dead."""
    assert_all_end_once(played(_drawn(seed), "predictive"))


def test_gateways_tell_one_another_as_often_as_in_production() -> None:
    """The same numbers, in modules that need not be installed where worlds are played."""
    asks = regions._ASK_EVERY_S
    assert (asks[0], asks[1] + regions.TICK_S) == between.ASK_EVERY_S
    assert between.TICK_S == regions.TICK_S
    assert between.GIVEN_UP_S == neighbours.HOLDS_S == loads.HOLDS_S
    assert neighbours.OWN_LOADS_S == regions._OWN_LOADS_S
    assert neighbours.UNREADY_S == recovering._UNREADY_S
    assert region_cluster.SPILLED_AT_A_TIME == turns._TURNS_AT_A_TIME


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"regions": 3}, "regions 3: give a list of one or more objects"),
        ({"pools": DOCUMENT["pools"]}, "pools [{'name'"),
        ({"regions": [region("one"), region("one")]}, "regions[1].name 'one': two regions have it"),
        ({"regions": [{"name": "one"}]}, "regions[0].pools is missing: give a list"),
        (
            {"regions": [region("one", 2, autoscaling={"max_replicas": 3})]},
            "regions[0].autoscaling.max_replicas 3: give a number of 1 or more, 2 at most",
        ),
        (
            {"round_trip_s": {"one": {"two": 0.1}}},
            "round_trip_s.one.three is missing: give the seconds from one to the other and back",
        ),
        (
            {"round_trip_s": {"one": {"two": -1}}},
            "round_trip_s.one.two -1: give a number of 0 or more, 10 at most",
        ),
        (
            {"round_trip_s": {"one": {"mars": 1}}},
            "round_trip_s.one.mars names 'mars': give regions, or origins of",
        ),
        (
            {"round_trip_s": {**ROUND_TRIPS, "three": {"two": 0.3}}},
            "round_trip_s.three.two 0.3: round_trip_s.two.three says it already; give each pair once",
        ),
        (
            {"arrivals": [{"kind": "poisson", "requests_per_s": 1, "origin": "sea"}]},
            "round_trip_s.sea.one is missing",
        ),
        ({"regions": [region("one", share=0)], "round_trip_s": {}}, "regions: all have share 0"),
        (
            {"residency": ["mars"]},
            "regions[0].pools: one is in one, outside of the residency mars: leave them away",
        ),
        ({"residency": "one"}, "residency 'one': give a list of texts"),
        (
            {"regions": [{"name": "one"}, region("two")], "residency": ["two"]},
            "regions[0].jurisdiction is missing",
        ),
        (
            {"regions": [{"name": "one", "jurisdiction": "x"}], "residency": ["two"], "round_trip_s": {}},
            "residency two: no region is there; give one of: x",
        ),
        ({"failures": lost("mars")}, "failures.regions_lost[0].region 'mars': give one of: one, two, three"),
        ({"failures": lost("one", back_s=125)}, "back_s 125.0: give 130 or more, or leave it away"),
        (
            {"failures": lost("one", kind="tired")},
            "failures.regions_lost[0].kind 'tired': give one of: lost, frozen",
        ),
        (
            {"failures": {"regions_lost": [{"region": "one", "at_s": 1}, {"region": "one", "at_s": 90}]}},
            "failures.regions_lost[1].at_s 90.0: one is away then already",
        ),
        ({"edge": {"detect_s": -1}}, "edge.detect_s -1: give a number of 0 or more"),
        (
            {"jobs": [{"replica_hours": 0.01, "deadline_s": 400, "restart_s": 1, "region": "mars"}]},
            "jobs[0].region 'mars': give one of: one, two, three",
        ),
        (
            {"mode": "fluid", "posture": "active_passive"},
            "mode 'fluid': it can't play who holds the seat of posture active_passive; give request",
        ),
    ],
)
def test_what_is_wrong_with_regions_is_named(fields: dict[str, Any], said: str) -> None:
    """One sentence with the field, its value and what to give."""
    with pytest.raises(WorldError) as error:
        world_of(apart(**fields))
    assert said in str(error.value)


def test_a_round_trip_may_be_said_either_way() -> None:
    """And clients at a further place come to the nearest region."""
    document = apart(
        arrivals=[{"kind": "poisson", "requests_per_s": 2, "origin": "sea"}],
        round_trip_s={
            "two": {"one": 0.1},
            "three": {"one": 0.2, "two": 0.15},
            "one": {"sea": 0.3},
            "sea": {"two": 0.05, "three": 1},
        },
        hours=0.05,
    )
    outcome = played(document)
    assert [each.requests for each in outcome.regions] == [0, outcome.requests, 0]
    assert outcome.ttft_s_p50 is not None
    assert outcome.ttft_s_p50 > 0.05


def test_regions_are_in_all_that_is_written() -> None:
    """In the JSON that a later run goes on from, in both tables, and on the page with a picture each."""
    whole = world_of(apart(hours=0.01))
    seen, found = seen_of(whole), list(outcomes(whole, "kpa", "static:2"))
    assert outcomes_in(as_json(whole, seen, found, "x").encode(), "x") == {
        each.policy: each for each in found
    }
    rows = [line.split(",")[:2] for line in summary_csv(found).splitlines()[1:]]
    assert rows == [[policy, name] for policy in ("kpa", "static:2") for name in ("", "one", "two", "three")]
    times = [line.split(",")[1] for line in timeline_csv(found).splitlines()[1:]]
    assert set(times) == {"", "one", "two", "three"}
    page = html_report(whole, seen, found, "")
    assert page.count('role="img"') == 3 + 2 + 2 * 3
    assert "kpa in three" in page
    assert "during losses" in page


def test_what_arrives_by_origin_adds_up_in_long_worlds() -> None:
    """Where a survey's steps become longer on the way."""
    rates = {"one": 2.3, "two": 0.1}
    sources = [{"kind": "poisson", "requests_per_s": per_s, "origin": name} for name, per_s in rates.items()]
    seen = seen_of(world_of(apart(hours=9.5, arrivals=sources)))
    assert seen.step_s > 0.25
    assert sum(seen.work_s_by_origin) == pytest.approx(seen.work_s_by_step)
    assert sum(seen.requests_by_origin) == pytest.approx(seen.requests_by_step)
