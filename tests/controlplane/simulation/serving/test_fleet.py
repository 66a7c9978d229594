"""A fleet's day: rules hold, losses are met elsewhere, the same seed gives the same day."""

import numpy as np
import pytest

from controlplane.simulation.serving.fleet_mode import FleetMode
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
    """So many of each; nobody runs outside of the residency, and the mean fits everywhere."""
    world = fleet_world(3)
    sizes = world.sizes
    assert (sizes["clusters"], sizes["deployments"], sizes["regions"]) == (1000, 500, 40)
    assert sizes["GPUs"] == pytest.approx(100_000, rel=0.02)
    wanted = world.residency[world.deployment]
    assert ((wanted < 0) | (world.jurisdiction[world.cluster] == wanted)).all()
    used = np.bincount(world.cluster, weights=world.mean_demand * world.gpus_per_replica, minlength=1000)
    assert (used <= 0.61 * world.gpus).all()
    assert len(world.gpus_lost) == pytest.approx(47, abs=35)


def test_a_day_is_the_same_for_a_seed_and_breaks_no_rule() -> None:
    """With clusters and a region lost."""
    days = [FleetMode(small(regions_lost=1)).play() for _ in range(2)]
    assert days[0] == days[1]
    assert days[0].broken == []
    assert days[0].lost_replicas > 0
    assert days[0].launches > 0
    assert 0.5 < days[0].within_slo_during <= 1
    assert FleetMode(small(2, regions_lost=1)).play() != days[0]


def test_what_a_lost_region_served_goes_elsewhere() -> None:
    """Its users are served late at first, not for as long as it is away."""
    calm = FleetMode(small(regions_lost=0, clusters_lost=0)).play()
    hit = FleetMode(small(regions_lost=1, clusters_lost=0)).play()
    assert calm.during_work_s == 0
    assert hit.during_work_s > 0
    assert hit.within_slo_during > 0.6
    assert hit.work_s == pytest.approx(calm.work_s, rel=0.01)  # nobody is forgotten


def test_progress_is_told() -> None:
    """Up to the end."""
    shares: list[float] = []
    FleetMode(small(hours=0.25)).play(shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
