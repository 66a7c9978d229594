"""Both modes play the same world: who waits, what it costs, what is lost; and they agree where they must."""

import math
from dataclasses import replace
from typing import Any

import pytest

from controlplane.simulation.serving.outcome import Durations, Outcome
from controlplane.simulation.serving.playing import Play
from controlplane.simulation.serving.pools import Failures, Places, ServingPool, losses_of
from controlplane.simulation.serving.service import ServiceModel, fitted
from controlplane.simulation.serving.streams import Streams
from tests.controlplane.simulation.serving.worlds import DOCUMENT, no_files, outcomes, seen_of, world

#: Stated in docs/simulation.md for worlds whose replicas are as fast with one request as with all seats taken.
SLO_POINTS = 0.02
REPLICA_HOURS_SHARE = 0.05


@pytest.mark.parametrize("policy", ["static:2", "static:5", "kpa", "predictive"])
def test_both_modes_agree(policy: str) -> None:
    """On the share within the SLO by two points, on replica-hours by five percent: three times ten minutes together."""
    hours = dict.fromkeys(("request", "fluid"), 0.0)
    for seed in (5, 6, 7):
        by_request, by_flow = (
            next(outcomes(world(mode=mode, slo={"wait_s": 5}, seed=seed), policy)) for mode in hours
        )
        assert by_request.requests == by_flow.requests
        assert by_request.within_slo == pytest.approx(by_flow.within_slo, abs=SLO_POINTS)
        assert by_request.usd == pytest.approx(4 * by_request.replica_hours)
        hours["request"] += by_request.replica_hours
        hours["fluid"] += by_flow.replica_hours
    assert hours["request"] == pytest.approx(hours["fluid"], rel=REPLICA_HOURS_SHARE)


def test_more_replicas_wait_less_and_cost_more() -> None:
    """Of too few, enough and many."""
    few, enough, many = outcomes(world(mode="request"), "static:2", "static:5", "static:8")
    assert few.within_slo < 0.9 < enough.within_slo <= many.within_slo
    assert few.usd < enough.usd < many.usd
    assert many.replica_hours == pytest.approx(8 / 6)


def test_the_same_seed_gives_the_same_to_the_last_digit() -> None:
    """And another one something else."""
    breaks = {
        "hours": 0.05,
        "failures": {"gpus_per_replica": 8, "gpu_failures_per_gpu_h": 10, "zones_lost": 1},
        "mode": "request",
    }
    one, two = (next(outcomes(world(**breaks), "kpa")) for _ in range(2))
    assert one == two
    assert one.lost_replicas > 0
    assert next(outcomes(world(**breaks, seed=6), "kpa")) != one


def test_policies_meet_the_same_failures_whatever_they_do() -> None:
    """Losses are drawn for places, not for the replicas that happen to be there."""
    pools = [
        ServingPool(name="a", procurement="spot", replicas=9, usd_per_replica_h=1, zone="a", hazard_per_h=0.5)
    ]
    places = Places(pools)
    failures = Failures(gpu_failures_per_gpu_h=0.05, zones_lost=2)
    one, two = (losses_of(places, failures, end_s=86_400, streams=Streams(4)) for _ in range(2))
    assert one == two
    causes = {loss.cause for loss in one}
    assert causes == {"GPU failure", "spot of a taken back", "zone a lost"}
    assert [loss.at_s for loss in one] == sorted(loss.at_s for loss in one)
    reclaimed = sum(len(loss.places) for loss in one if "taken back" in loss.cause)
    assert reclaimed == pytest.approx(0.5 * 9 * 24, rel=0.4)


def test_failures_of_gpus_come_as_often_as_was_published() -> None:
    """419 in 54 days on 16,384 GPUs."""
    pools = [ServingPool(name="a", procurement="on_demand", replicas=2048, usd_per_replica_h=1, zone="a")]
    found = losses_of(Places(pools), Failures(gpus_per_replica=8), end_s=54 * 86_400, streams=Streams(1))
    assert len(found) == pytest.approx(419, abs=5 * math.sqrt(419))


def test_a_lost_region_is_outside_of_the_slo_and_comes_back() -> None:
    """Streams go on once replicas are ready again; nobody is counted twice."""
    calm_world = world(mode="request", hours=0.2, arrivals=[{"kind": "poisson", "requests_per_s": 4}])
    lost = Failures(gpu_failures_per_gpu_h=0, regions_lost=1, outage_s=(60.0, 90.0))
    hit = next(outcomes(replace(calm_world, failures=lost), "static:6"))
    calm = next(outcomes(calm_world, "static:6"))
    assert hit.within_slo < calm.within_slo
    assert hit.lost_replicas == 6
    assert hit.resumed > 0
    assert hit.moments[-1].ready == 6


def test_what_is_not_to_be_had_is_not_launched() -> None:
    """A pool without stock fails launches; a gateway that is full refuses."""
    scarce = [{**DOCUMENT["pools"][0], "stock_outs_per_day": 1000, "stock_out_s": 86400}]
    poor = next(outcomes(world(mode="request", pools=scarce), "kpa"))
    assert poor.failed_launches > 0
    assert poor.launches < next(outcomes(world(mode="request"), "kpa")).launches
    full = next(outcomes(world(mode="request", gateway={"hold_requests_max": 5}), "static:1"))
    assert full.not_served > 100
    assert full.within_slo < 0.6


def test_reserved_capacity_is_paid_for_and_filled_first() -> None:
    """In both modes, used or not."""
    pools = [
        {"name": "r", "procurement": "reserved", "replicas": 3, "usd_per_replica_h": 2},
        {"name": "o", "procurement": "on_demand", "replicas": 9, "usd_per_replica_h": 5},
    ]
    for mode in ("request", "fluid"):
        small, large = outcomes(world(mode=mode, pools=pools), "static:1", "static:5")
        assert small.usd == pytest.approx(3 * 2 / 6), mode
        assert large.usd == pytest.approx((3 * 2 + 2 * 5) / 6), mode


def test_a_mode_is_chosen_by_the_number_of_requests() -> None:
    """Unless the world says which."""
    played = world()
    seen = seen_of(played)
    assert Play(played, seen, "kpa", no_files).mode == "request"
    seen.requests = 10_000_000
    assert Play(played, seen, "kpa", no_files).mode == "fluid"


def test_progress_is_told_and_ends_at_the_end() -> None:
    """Of both modes."""
    for mode in ("request", "fluid"):
        played, shares = world(mode=mode), list[float]()
        Play(played, seen_of(played), "kpa", no_files).run(shares.append)
        assert shares == sorted(shares)
        assert 0.9 < shares[-1] <= 1.0


def test_a_batch_shares_its_speed() -> None:
    """The more requests a replica computes side by side, the slower each: eight at once take what the model says."""
    service = {"seats": 8, "itl_base_s": 0.01, "itl_s_per_request": 0.01}
    fields: dict[str, Any] = {
        "mode": "request",
        "service": service,
        "hours": 0.02,
        "lengths": {"input": {"mean": 1}, "output": {"mean": 100}},
    }
    alone = next(
        outcomes(world(**fields, arrivals=[{"kind": "poisson", "requests_per_s": 0.05}]), "static:1")
    )
    assert alone.ttft_s_p50 is not None
    assert alone.waited_s_p99 == 0.001  # the first bucket: nobody waits
    crowd = next(outcomes(world(**fields, arrivals=[{"kind": "poisson", "requests_per_s": 50}]), "static:1"))
    served = crowd.requests * crowd.within_slo - crowd.not_served
    most_per_s = 8 / (100 * 0.09)
    assert served <= most_per_s * (72 + 5) * 1.1


def test_a_prompt_holds_up_all_that_are_in_the_batch() -> None:
    """A replica whose time goes to prompts serves as many as it can read, however many seats it has."""
    service = {"seats": 8, "prefill_base_s": 0.5, "itl_base_s": 0.001}
    crowd = next(
        outcomes(
            world(
                mode="request",
                service=service,
                hours=0.1,
                lengths={"input": {"mean": 1}, "output": {"mean": 10}},
                arrivals=[{"kind": "poisson", "requests_per_s": 8}],
            ),
            "static:1",
        )
    )
    served = crowd.requests * crowd.within_slo
    assert served <= 360 / 0.5 + 8 * 5
    assert crowd.ttft_s_p50 is not None


def test_waiting_has_an_agent_decide_at_once() -> None:
    """Not only at its next turn: a gateway that says that somebody waits wakes it."""
    slow = world(
        mode="request",
        decide_every_s=60,
        hours=0.1,
        cold_start={"engine_start": {"mean_s": 5}},
        arrivals=[{"kind": "steps", "levels": [{"at_s": 0, "requests_per_s": 30}]}],
    )
    crowd = next(outcomes(slow, "kpa"))
    first = next(moment.at_s for moment in crowd.moments if moment.ready > 2)
    assert first < 30


def test_percentiles_are_within_a_bucket() -> None:
    """And of nothing there is none."""
    durations = Durations()
    assert durations.percentile_s(0.5) is None
    for number in range(1, 1001):
        durations.add(number / 100)
    for share in (0.5, 0.9, 0.99):
        found = durations.percentile_s(share)
        assert found is not None
        assert share * 10 <= found <= share * 10 * 1.06


def test_a_model_is_fitted_to_what_was_measured() -> None:
    """Straight lines through points; no part below nothing."""
    model = fitted(seats=4, prefill=[(100, 0.03), (1100, 0.13)], decode=[(1, 0.021), (4, 0.024)])
    assert model.prefill_s(600) == pytest.approx(0.08)
    assert model.itl_s(2) == pytest.approx(0.022)
    falling = fitted(seats=4, prefill=[(100, 0.2), (200, 0.1)], decode=[(1, 0.0), (4, 0.04)])
    assert falling.prefill_s_per_token == 0
    assert falling.itl_base_s == 0
    with pytest.raises(ValueError, match="at least two different"):
        fitted(seats=4, prefill=[(100, 0.1)], decode=[(1, 0.1), (2, 0.1)])
    with pytest.raises(ValueError, match="one of them must be above 0"):
        ServiceModel(seats=1, prefill_base_s=1, prefill_s_per_token=0, itl_base_s=0, itl_s_per_request=0)


def test_outcomes_are_numbers_that_can_be_written() -> None:
    """No field is left at what it is not."""
    for outcome in outcomes(world(mode="request"), "kpa"):
        assert isinstance(outcome, Outcome)
        assert not outcome.broken
        assert 0 <= outcome.within_slo <= 1
        assert len(outcome.moments) > 100
