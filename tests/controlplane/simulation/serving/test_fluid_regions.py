"""Several regions in the fluid mode: held against the mode that plays each request, and what never happens."""

from dataclasses import replace
from typing import Any

import pytest

from controlplane.simulation.serving.outcome import Outcome
from controlplane.simulation.serving.playing import Play
from controlplane.simulation.serving.report import html_report
from controlplane.simulation.serving.results import as_json, outcomes_in
from controlplane.simulation.serving.world_document import world_of
from tests.controlplane.simulation.serving.test_placed_regions import placed, plans_of
from tests.controlplane.simulation.serving.test_several_regions import apart, arrivals, lost, region
from tests.controlplane.simulation.serving.test_several_regions import played as played_as_it_says
from tests.controlplane.simulation.serving.worlds import no_files, seen_of


def played(document: dict[str, Any], policy: str = "static:4", mode: str = "fluid") -> Outcome:
    return played_as_it_says({**document, "mode": mode}, policy)


def two(**fields: Any) -> dict[str, Any]:
    """Two regions; the load of the first one grows to more than its share and falls again."""
    levels = [{"at_s": at_s, "requests_per_s": per_s} for at_s, per_s in ((0, 8), (150, 18), (400, 6))]
    return apart(
        region("one", 12),
        region("two", 12),
        round_trip_s={"one": {"two": 0.1}},
        hours=0.16,
        seed=3,
        arrivals=[
            {"kind": "steps", "origin": "one", "levels": levels},
            {"kind": "poisson", "origin": "two", "requests_per_s": 8},
        ],
        **fields,
    )


@pytest.mark.parametrize(
    ("policy", "failures"),
    [("kpa", {}), ("predictive", {}), ("kpa", lost("one", 200, 400)), ("static:7", lost("one", 200, 400))],
)
def test_both_modes_agree(policy: str, failures: dict[str, Any]) -> None:
    """5 % of replica-hours, 2 points of SLO, in all and during a loss, and of who is served elsewhere."""
    document = two(failures={"gpu_failures_per_gpu_h": 0, **failures})
    one_by_one, sum_of_all = played(document, policy, "request"), played(document, policy)
    assert sum_of_all.replica_hours == pytest.approx(one_by_one.replica_hours, rel=0.05)
    assert sum_of_all.within_slo == pytest.approx(one_by_one.within_slo, abs=0.02)
    assert sum_of_all.spilled == pytest.approx(one_by_one.spilled, abs=0.02)
    assert sum_of_all.lost_replicas == one_by_one.lost_replicas
    for mine, theirs in zip(sum_of_all.regions, one_by_one.regions, strict=True):
        assert mine.requests == theirs.requests
    if failures:
        assert sum_of_all.within_slo_during == pytest.approx(one_by_one.within_slo_during, abs=0.03)


def test_it_is_the_same_each_time_and_each_request_counts_once() -> None:
    """For the region that is the nearest to its client."""
    document = two(failures=lost("one", 200, 400))
    outcome = played(document, "kpa")
    assert outcome == played(document, "kpa")
    assert sum(each.requests for each in outcome.regions) == outcome.requests
    assert sum(each.replica_hours for each in outcome.regions) == pytest.approx(outcome.replica_hours)
    world = world_of(document)
    text = as_json(world, seen_of(world), [outcome], "abc")
    assert outcomes_in(text.encode(), "abc") == {"kpa": outcome}
    assert "<h2>By region</h2>" in html_report(world, seen_of(world), [outcome], "d" * 64)


def test_a_region_where_nothing_may_run_passes_all_on() -> None:
    """Its clients are served elsewhere, within the residency."""
    nowhere = {"name": "three", "jurisdiction": "three"}
    document = apart(region("one"), region("two"), nowhere, residency=["one", "two"])
    document["arrivals"] = arrivals(origin="three")
    outcome = played(document)
    assert outcome.within_slo == 1
    assert [each.spilled for each in outcome.regions] == [0, 0, pytest.approx(1)]


def test_nobody_is_served_where_all_regions_are_gone() -> None:
    """Who came meanwhile waits for the first one that is back, and is late."""
    gone = [{"region": name, "at_s": 100, "back_s": 200} for name in ("one", "two", "three")]
    document = apart(failures={"gpu_failures_per_gpu_h": 0, "regions_lost": gone})
    outcome = played(document)
    assert outcome.within_slo_during is not None
    assert outcome.within_slo_during < 0.1
    for each in outcome.regions:
        ready = [moment.ready for moment in each.moments if 101 < moment.at_s < 199]
        assert set(ready) == {0}
    assert sum(each.requests for each in outcome.regions) == outcome.requests


def test_placement_bounds_regions_as_it_does_request_by_request() -> None:
    """The same plans for the same events."""
    document = placed(hours=0.15, failures=lost("one", 100, 250))
    plans = [plans_of(played(document, "kpa", mode)).told for mode in ("request", "fluid")]
    assert [(plan.at_s, plan.why, plan.bounds) for plan in plans[0]] == [
        (plan.at_s, plan.why, plan.bounds) for plan in plans[1]
    ]
    assert len(plans[0]) > 2


def test_jobs_run_beside_it() -> None:
    """Where they are told to."""
    job = {"replica_hours": 0.02, "deadline_s": 400, "restart_s": 20, "region": "two"}
    (found,) = played(apart(jobs=[job])).jobs
    assert (found.late, found.done_share) == (False, 1.0)


def test_who_holds_a_seat_is_played_request_by_request() -> None:
    """However many requests there are."""
    world = world_of(apart(posture="active_passive"))
    many = replace(seen_of(world), requests=3_000_000)
    assert Play(world, many, "kpa", no_files).mode == "request"
    spread = world_of(apart())
    assert Play(spread, many, "kpa", no_files).mode == "fluid"
