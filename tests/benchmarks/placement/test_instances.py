"""The instances that everything is measured on: the same each time, valid, with an answer, and of the stated kind."""

import pytest

from controlplane.placement import PlacementProblem, problem_sha256, solve
from tests.benchmarks.placement.instances import instance

SIZES = [(6, 8, 3), (10, 12, 4), (100, 40, 8)]


@pytest.fixture(scope="module")
def fleet() -> PlacementProblem:
    return instance(deployments=400, pools=40, regions=8, seed=5)


@pytest.mark.parametrize(("deployments", "pools", "regions"), SIZES)
def test_equal_arguments_give_equal_problems_and_another_seed_another(deployments, pools, regions):
    def made(seed: int) -> str:
        return problem_sha256(instance(deployments=deployments, pools=pools, regions=regions, seed=seed))

    assert made(1) == made(1)
    assert made(1) != made(2)


@pytest.mark.parametrize(("deployments", "pools", "regions"), SIZES)
@pytest.mark.parametrize("seed", range(3))
def test_nearly_every_deployment_can_be_placed(deployments, pools, regions, seed):
    problem = instance(deployments=deployments, pools=pools, regions=regions, seed=seed)
    refused = [entry for entry in solve(problem).deployments if entry.refusal is not None]
    assert len(refused) <= 1 + deployments // 10


def test_what_runs_fits_into_the_pools(fleet):
    used = dict.fromkeys(fleet.pool_by_id, 0)
    for row in fleet.current:
        used[row.pool_id] += row.room_replicas * row.gpus_per_replica
    for pool in fleet.pools:
        assert used[pool.pool_id] <= pool.capacity_instances * pool.gpus_per_instance


def test_sizes_have_a_heavy_tail(fleet):
    wanted = sorted(one.min_replicas for one in fleet.deployments)
    assert wanted[len(wanted) // 2] <= 2
    assert wanted[-1] >= 10


def test_every_kind_is_there(fleet):
    assert {one.survivability for one in fleet.deployments} == {"none", "zone", "region", "provider"}
    assert {one.posture for one in fleet.deployments} == {"active_active", "active_passive"}
    assert {pool.procurement for pool in fleet.pools} == {"reserved", "on_demand", "spot"}
    assert {cluster.provider for cluster in fleet.clusters} == {"aws", "gcp", "azure", "onprem"}
    assert any(one.residency for one in fleet.deployments)
    assert fleet.budgets
    assert fleet.reservations


def test_a_looser_world_has_more_room(fleet):
    def gpus(tightness: float) -> int:
        made = instance(deployments=100, pools=40, regions=8, seed=1, tightness=tightness)
        return sum(pool.capacity_instances * pool.gpus_per_instance for pool in made.pools)

    assert gpus(0.5) > 1.3 * gpus(0.9)


@pytest.mark.parametrize(
    ("field", "sizes"),
    [
        ("regions", {"pools": 40, "regions": 0}),
        ("pools", {"pools": 3, "regions": 8}),
        ("tightness", {"pools": 40, "regions": 8, "tightness": 0.0}),
    ],
)
def test_sizes_that_make_no_world_are_refused_by_name(field, sizes):
    with pytest.raises(ValueError, match=field):
        instance(deployments=10, seed=1, **sizes)


@pytest.mark.parametrize("seed", [9, 13, 31, 75, 80, 99])
def test_the_first_plan_gives_nothing_up_that_a_witness_keeps(seed: int) -> None:
    """By spot alone in a zone, by few strong replicas, and by others who go elsewhere (in one world who runs must)."""
    problem = instance(deployments=10, pools=12, regions=4, seed=seed)
    for plan in (solve(problem), solve(problem, runners_make_way=True))[seed == 75 :]:
        assert all(not entry.relaxed and entry.refusal is None for entry in plan.deployments)
