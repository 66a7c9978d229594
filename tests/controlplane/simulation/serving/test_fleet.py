"""A fleet's day: rules hold, losses are met elsewhere and placed anew, the same seed gives the same day."""

import numpy as np
import pytest

from controlplane.simulation.serving.fleet_mode import FleetMode
from controlplane.simulation.serving.fleet_plan import FleetPlanner
from controlplane.simulation.serving.fleet_world import FleetWorld, fleet_world


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
    assert hit.within_slo_hit >= 0.99
    assert hit.within_slo_outside >= 0.999
    assert hit.placed_anew > calm.placed_anew
    assert hit.work_s == pytest.approx(calm.work_s, rel=0.01)  # nobody is forgotten


def test_bounds_leave_a_cluster_that_is_lost_and_keep_their_sum() -> None:
    """What is kept ready elsewhere is no less than before."""
    world = small()
    planner = FleetPlanner(world)
    before = list(planner.bounds())
    lost = before[0].cluster
    there = np.ones(len(world.gpus), dtype=bool)
    there[lost] = False
    touched = planner.anew(60.0, there)
    after = list(planner.bounds())
    assert {row.deployment for row in before if row.cluster == lost} <= touched
    assert lost not in {row.cluster for row in after}
    for deployment in touched:
        kept = [sum(r.min_replicas for r in rows if r.deployment == deployment) for rows in (before, after)]
        assert kept[1] >= kept[0] - 1
    assert not planner.anew(61.0, there)


def test_progress_is_told() -> None:
    """Up to the end."""
    shares: list[float] = []
    FleetMode(small(hours=0.25)).play(shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
