"""What is rented from where: reserved pools, then the blend of spot and on demand as production runs it."""

import json
from collections.abc import Iterable
from typing import Any

import pytest

from controlplane.procurement import BlendPolicy
from controlplane.simulation.serving.cold_start import LaunchTimes, Phase
from controlplane.simulation.serving.fields import WorldError
from controlplane.simulation.serving.outcome import Outcome
from controlplane.simulation.serving.playing import Play
from controlplane.simulation.serving.pools import Loss, Places, ServingPool
from controlplane.simulation.serving.renting_blend import Blended, markets_of
from controlplane.simulation.serving.replicas import Fleet, SimulatedReplica
from controlplane.simulation.serving.streams import Streams
from controlplane.simulation.serving.supply import Supply
from controlplane.simulation.serving.world import survey
from tests.controlplane.simulation.serving.worlds import world

RESERVED: dict[str, Any] = {"name": "r", "procurement": "reserved", "replicas": 2, "usd_per_replica_h": 2}
SPOT: dict[str, Any] = {"name": "s", "procurement": "spot", "replicas": 8, "usd_per_replica_h": 1}
ON_DEMAND: dict[str, Any] = {"name": "o", "procurement": "on_demand", "replicas": 12, "usd_per_replica_h": 4}
#: Half an hour, so that what is rented has time to settle; nothing extra.
FIELDS: dict[str, Any] = {
    "mode": "request",
    "hours": 0.5,
    "arrivals": [{"kind": "poisson", "requests_per_s": 2}],
    "procurement": {"kind": "blend", "extra_most": 0},
    "policies": {"in-order": {"kind": "kpa", "procurement": {"kind": "in_order"}}},
}


def played(policy: str, *pools: dict[str, Any], spot: list[int] | None = None, **fields: Any) -> Outcome:
    """``spot``: instances by five minutes, in the file of the pool that has one."""

    def lines(name: str) -> Iterable[str]:
        assert name == "zone.json"
        return [json.dumps({"metadata": {"gap_seconds": 300}, "data": spot})]

    document = world(**{**FIELDS, "pools": list(pools), **fields})
    *_, seen = survey(document, lines)
    return Play(document, seen, policy, lines).run()


def test_reserved_is_used_first_then_spot_and_on_demand_until_spot_has_lasted() -> None:
    """Six replicas all the time: two reserved, four of spot soon; nothing refused, nothing broken."""
    found = played("static:6", RESERVED, SPOT, ON_DEMAND)
    reserved, spot, on_demand = (found.rented[kind] for kind in ("reserved", "spot", "on_demand"))
    assert found.procurement == "blend"
    assert reserved.replica_hours == pytest.approx(2 * 0.5)
    assert spot.launches == 4
    assert 1.5 < spot.replica_hours < 2.0
    assert on_demand.replica_hours < 1.0
    assert found.usd == pytest.approx(2 * 2 * 0.5 + spot.replica_hours + 4 * on_demand.replica_hours)
    assert not found.failed_launches
    assert not found.broken
    assert found.moments[-1].ready == 6
    assert any("spot has been ready in their place" in reason for reason in found.reasons)


def test_what_spot_lacks_is_on_demand_and_a_zone_that_has_nothing_is_asked_seldom() -> None:
    """Pools in their order ask it at each launch."""
    traced = {**SPOT, "spot_trace": "zone.json"}
    found = played("static:4", traced, ON_DEMAND, spot=[0] * 6)
    assert found.rented["spot"].launches == 0
    assert found.rented["spot"].failed_launches == 1  # not again within the hour
    assert found.rented["on_demand"].replica_hours == pytest.approx(2.0)
    assert found.within_slo == 1.0


def test_a_floor_stays_on_demand() -> None:
    """However much spot there is."""
    found = played("static:4", SPOT, ON_DEMAND, procurement={"kind": "blend", "floor": 3, "extra_most": 0})
    assert found.rented["on_demand"].replica_hours >= 1.5
    assert found.rented["spot"].launches == 1


@pytest.mark.parametrize("policy", ["static:5", "in-order"])
def test_a_zone_that_falls_takes_back_what_stands_beyond(policy: str) -> None:
    """By its trace, whoever rents: five stand on spot, two may stay; no more than its trace says ever stand there."""
    traced = {**SPOT, "spot_trace": "zone.json"}
    autoscaling = {"min_replicas": 5, "max_replicas": 5}
    found = played(
        policy, traced, {**ON_DEMAND, "zone": "b"}, spot=[8, 8, 8, 8, 2, 2], autoscaling=autoscaling
    )
    assert found.rented["spot"].lost == 3
    assert found.lost_replicas == 3
    assert found.moments[-1].ready == 5


def test_policies_name_how_they_rent_and_are_set_side_by_side() -> None:
    """The world's way unless they say another."""
    blended = played("static:4", ON_DEMAND, SPOT)
    in_order = played("in-order", ON_DEMAND, SPOT, autoscaling={"min_replicas": 4, "max_replicas": 4})
    assert (blended.procurement, in_order.procurement) == ("blend", "in_order")
    assert in_order.rented["spot"].launches == 0
    assert blended.usd < 0.7 * in_order.usd
    assert played("static:4", ON_DEMAND, SPOT, mode="fluid").procurement == "blend"


def test_what_a_renter_starts_beside_is_not_taken_for_wanted() -> None:
    """An agent that counted it would want still more, for what starts is never cancelled while some of it is wanted."""
    traced = {**SPOT, "replicas": 12, "spot_trace": "zone.json"}
    most = {}
    for policy in ("predictive", "in-order"):
        found = played(
            policy,
            traced,
            {**SPOT, "name": "t", "replicas": 12, "zone": "b"},
            {**ON_DEMAND, "replicas": 24},
            spot=[12, 12, 2, 2, 0, 0],
            arrivals=[{"kind": "poisson", "requests_per_s": 4}],
            lengths={"input": {"mean": 500}, "output": {"mean": 1000, "cv": 0.5}},
            procurement={"kind": "blend"},
            autoscaling={"min_replicas": 2, "max_replicas": 40},
            policies={"in-order": {"procurement": {"kind": "in_order"}}},
        )
        assert found.lost_replicas > 2
        most[policy] = max(moment.wanted for moment in found.moments[120:])
    assert most["predictive"] <= most["in-order"]


def test_what_a_reserved_one_is_replaced_by_stays_until_it_is_ready_again() -> None:
    """Nobody is stopped for a machine that still starts."""
    pools = [ServingPool(**{**one, "zone": "a"}) for one in (RESERVED, SPOT, ON_DEMAND)]
    supply = Supply(Places(pools), {}, {}, Streams(1))
    fleet = Fleet(supply)
    starts = (Phase(name="gpu_procurement", mean_s=10), Phase(name="engine_start", mean_s=50))
    renter = Blended(fleet, LaunchTimes(starts, Streams(1)), BlendPolicy(extra_most=0, hold_s=0))
    for replica, _ in renter.begin(2):
        replica.is_ready = True
    assert [one.holding.pool.name for one in fleet.serving()] == ["r", "r"]
    fleet.lost(supply.lose(Loss(5.0, 100.0, (0,), "GPU failure"), 5.0))
    waiting: list[tuple[SimulatedReplica, float]] = []
    for now_s in range(6, 400, 2):
        for replica, ready_s in [each for each in waiting if each[1] <= now_s]:
            replica.is_ready = True
            waiting.remove((replica, ready_s))
        turn = renter.turn_to(2, float(now_s))
        waiting += turn.launched
        for replica in turn.stopped:
            fleet.end(replica, float(now_s))
        ready = [one.holding.pool.name for one in fleet.serving()]
        assert now_s < 70 or len(ready) >= 2, (now_s, ready)
    assert ready == ["r", "r"]
    assert fleet.tally.rented["reserved"].launches == 3


def test_a_market_is_a_type_in_a_zone_with_both_its_prices() -> None:
    """What is stated of its hazard is believed until more is seen; of a trace nothing is."""
    one, other = markets_of(
        [
            ServingPool(
                name="s", procurement="spot", replicas=1, usd_per_replica_h=1, zone="a", hazard_per_h=0.3
            ),
            ServingPool(name="o", procurement="on_demand", replicas=1, usd_per_replica_h=4, zone="a"),
            ServingPool(name="r", procurement="reserved", replicas=1, usd_per_replica_h=2, zone="a"),
            ServingPool(
                name="t",
                procurement="spot",
                replicas=1,
                usd_per_replica_h=2,
                zone="b",
                spot_trace="zone.json",
            ),
        ]
    )
    assert (one.market_id, one.spot_micro_usd_per_h, one.on_demand_micro_usd_per_h) == (
        "gpu@a",
        10**6,
        4 * 10**6,
    )
    assert one.hazard_per_h == 0.3
    assert (other.market_id, other.on_demand_micro_usd_per_h, other.hazard_per_h) == ("gpu@b", None, None)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"procurement": {"kind": "spot"}}, "procurement.kind 'spot': give one of: in_order, blend"),
        ({"procurement": {"kind": "in_order", "floor": 1}}, "procurement.floor 1: no such field"),
        ({"procurement": {"kind": "blend", "floor": -1}}, "procurement.floor -1: give a number of 0 or more"),
        ({"pools": [SPOT, {**SPOT, "name": "s2"}]}, "give one another zone or instance_type"),
        ({"pools": [{**ON_DEMAND, "spot_trace": "a.json"}]}, "give it to pools whose procurement is spot"),
        (
            {"pools": [{**SPOT, "spot_trace": "a.json", "hazard_per_h": 0.1}]},
            "leave hazard_per_h and stock_outs away",
        ),
    ],
)
def test_what_cannot_be_rented_so_is_named(fields: dict[str, Any], said: str) -> None:
    """One sentence."""
    with pytest.raises(WorldError) as error:
        world(**{**FIELDS, **fields})
    assert said in str(error.value)
