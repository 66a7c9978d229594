"""A fleet's day: rules hold, losses are met elsewhere and placed anew, the same seed gives the same day."""

import numpy as np
import pytest

from controlplane.simulation.serving.fleet_lanes import Lanes
from controlplane.simulation.serving.fleet_load import STEP_S, FleetLoad
from controlplane.simulation.serving.fleet_mode import FleetMode
from controlplane.simulation.serving.fleet_plan import FleetPlanner
from controlplane.simulation.serving.fleet_world import FleetWorld, fleet_world
from controlplane.simulation.serving.handover import Bounds, Outgoing


def small(seed: int = 1, **fields) -> FleetWorld:
    options = {
        "clusters": 30,
        "gpus": 3000,
        "deployments": 12,
        "regions": 9,
        "hours": 0.5,
        "clusters_lost": 2,
    } | fields
    return fleet_world(seed, **options)


def test_a_fleet_is_what_was_asked_for() -> None:
    """So many of each; every region has a cluster, nobody has users outside of the residency."""
    world = fleet_world(3)
    sizes = world.sizes
    assert (sizes["clusters"], sizes["deployments"], sizes["regions"]) == (1000, 500, 40)
    assert sizes["GPUs"] == pytest.approx(100_000, rel=0.05)
    assert set(world.region.tolist()) == set(range(40))
    wanted = world.residency[world.origin_deployment]
    assert ((wanted < 0) | (world.jurisdiction[world.origin_region] == wanted)).all()
    assert len(world.gpus_lost) == pytest.approx(47, abs=35)


def test_a_day_is_the_same_for_a_seed_and_breaks_no_rule() -> None:
    """With clusters and a region lost."""
    days = [FleetMode(small(regions_lost=1)).play() for _ in range(2)]
    assert days[0] == days[1]
    assert days[0].broken == []
    assert days[0].lost_replicas > 0
    assert days[0].launches > 0
    assert FleetMode(small(2, regions_lost=1)).play() != days[0]


def test_what_a_lost_region_served_goes_elsewhere_and_is_placed_anew() -> None:
    """Its users are served by the spares at once; what kept them safe is made again in other clusters."""
    calm = FleetMode(small(regions_lost=0, clusters_lost=0)).play()
    hit = FleetMode(small(regions_lost=1, clusters_lost=0)).play()
    assert calm.during_work_s == 0
    assert hit.during_work_s > 0
    assert hit.within_slo_during >= 0.99
    assert hit.within_slo_promised >= 0.999
    assert hit.within_slo_outside >= 0.999
    assert hit.placed_anew > calm.placed_anew
    assert hit.work_s == pytest.approx(calm.work_s, rel=0.01)  # nobody is forgotten


def test_bounds_leave_a_cluster_that_is_lost_and_keep_their_sum() -> None:
    """What is kept ready elsewhere is no less than before."""
    world = small()
    rates = FleetLoad(world).rates()
    planner = FleetPlanner(world, rates)
    before = list(planner.bounds())
    lost = before[0].place
    there = np.ones(len(world.gpus), dtype=bool)
    there[lost] = False
    touched = planner.anew(rates, there)
    after = list(planner.bounds())
    assert {row.deployment for row in before if row.place == lost} <= touched
    assert lost not in {row.place for row in after}
    for deployment in touched:
        kept = [sum(r.min_replicas for r in rows if r.deployment == deployment) for rows in (before, after)]
        assert kept[1] >= kept[0] - 1
    assert not planner.anew(rates, there)


def test_usage_of_a_day_is_known_and_rolls_on() -> None:
    """Planned for is what 95 of 100 five minutes of the last day stay below, whatever hour it is."""
    world = small()
    load = FleetLoad(world)
    at_first = load.rates()
    wave = world.demand(np.arange(0.0, 86_400.0, 300.0))
    assert (at_first.p95 >= 0.97 * np.quantile(wave, 0.95, axis=0)).all()
    assert (at_first.p95 <= 1.25 * wave.max(axis=0)).all()
    assert at_first.p50 == pytest.approx(world.mean_demand, rel=0.1)
    steps = [load.next(step * STEP_S) for step in range(6 * 360)]
    later = load.rates()
    assert later.p95 == pytest.approx(at_first.p95, rel=0.1)
    assert (later.p95 != at_first.p95).any()
    assert np.mean(steps, axis=0) == pytest.approx(wave[:72].mean(axis=0), rel=0.1)


def lanes_of(*bounds: Bounds) -> Lanes:
    """Deployment 0 where these say, all that is promised ready."""
    lanes = Lanes(small(), "predictive")
    lanes.bound(bounds)
    lanes.ready = lanes.least.copy()
    lanes.begin()
    return lanes


def test_what_a_deployment_leaves_serves_until_the_new_places_are_ready() -> None:
    """However long that takes; meanwhile it takes room from plans."""
    lanes = lanes_of(Bounds(0, 1, 4, 6, 4), Bounds(0, 2, 4, 6, 4))
    lanes.bound([Bounds(0, 1, 4, 6, 4), Bounds(0, 3, 4, 6, 4)])
    old, new = lanes.number(0, 2), lanes.number(0, 3)
    assert not lanes.settle()
    assert lanes.ready[old] == 4
    assert list(lanes.outgoing()) == [Outgoing(0, 2, 4)]
    lanes.ready[new] = 3
    assert not lanes.settle()
    lanes.ready[new] = 4
    assert lanes.settle()
    assert lanes.ready[old] == 0
    assert not list(lanes.outgoing())


def test_what_shrinks_keeps_what_serves_until_others_have_grown() -> None:
    """And they are made as many as it gives up."""
    lanes = lanes_of(Bounds(0, 1, 8, 8, 8), Bounds(0, 2, 1, 8, 8))
    lanes.bound([Bounds(0, 1, 2, 4, 4), Bounds(0, 2, 1, 12, 12)])
    shrinks, grows = lanes.number(0, 1), lanes.number(0, 2)
    assert (lanes.least[shrinks], lanes.most[shrinks]) == (8, 8)
    assert (lanes.least[grows], lanes.most[grows]) == (4, 12)
    lanes.ready[grows] = 4
    assert lanes.settle()
    assert (lanes.least[shrinks], lanes.most[shrinks]) == (2, 4)
    assert lanes.least[grows] == 1


def test_progress_is_told() -> None:
    """Up to the end."""
    shares: list[float] = []
    FleetMode(small(hours=0.25)).play(shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
