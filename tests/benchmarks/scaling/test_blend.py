"""The bench of the blend: its worlds, its books, and the rows that it tells."""

import json
from itertools import pairwise

import pytest

from controlplane.procurement import Blend, Market
from tests.benchmarks.goals import table
from tests.benchmarks.scaling import blend
from tests.benchmarks.scaling.deadline_rows import deadline_row
from tests.benchmarks.scaling.reserved_rows import reserved_rows
from tests.benchmarks.scaling.skyserve import SkyServe
from tests.benchmarks.scaling.spot_world import PLENTY, SHAPES, SpotWorld, play, world_made, world_read


def steady(instances: int, ticks: int = 600) -> SpotWorld:
    market = Market(
        market_id="g@a1", region="a", spot_micro_usd_per_h=1_000_000, on_demand_micro_usd_per_h=4_000_000
    )
    return SpotWorld(name="steady", markets=(market,), capacity={"g@a1": [instances] * ticks}, wanted=2)


def test_what_is_held_is_paid_for_and_what_serves_is_counted():
    all_spot = play(steady(PLENTY), SkyServe(markets=steady(1).markets, extra=1))
    assert all_spot.available == 1
    assert all_spot.usd_per_h == pytest.approx(3, rel=0.02)  # two and one extra, with on demand for minutes
    none = play(steady(0), Blend(markets=steady(0).markets))
    assert none.available == 1
    assert none.usd_per_h == pytest.approx(8, rel=0.02)
    assert none.failed_launches == none.launches - 2


def test_worlds_are_made_from_their_seed_and_falls_are_mostly_at_once():
    shape = SHAPES[0]
    world, again = world_made(shape, seed=3, days=10), world_made(shape, seed=3, days=10)
    assert world.capacity == again.capacity
    assert world.capacity != world_made(shape, seed=4, days=10).capacity
    falls = [
        before - after
        for row in world.capacity.values()
        for before, after in pairwise(row)
        if after < before and before > 1
    ]
    assert sum(fall > 1 for fall in falls) > 20  # a zone's capacity goes together
    shares = sorted(sum(count > 0 for count in row) / len(row) for row in world.capacity.values())
    assert shares[-1] - shares[0] > 0.3  # zones differ


def test_recorded_zones_are_read_and_a_broken_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="has no trace"):
        world_read(tmp_path, wanted=1, on_demand_usd_per_h=1, price_share=0.3)
    for zone, data in (("us-east-1a", [1, 0, 4]), ("us-east-1b", [2, 2, 2])):
        trace = {"metadata": {"gap_seconds": 300}, "data": data}
        (tmp_path / f"{zone}_v100_1.json").write_text(json.dumps(trace))
    world = world_read(tmp_path, wanted=1, on_demand_usd_per_h=10, price_share=0.3)
    assert world.capacity["gpu@us-east-1a"] == [1] * 5 + [0] * 5 + [4] * 5
    assert {market.region for market in world.markets} == {"gpu@us-east-1"}
    (tmp_path / "us-east-1c.json").write_text('{"metadata": {"gap_seconds": 300}, "data": [-1]}')
    with pytest.raises(ValueError, match=r"us-east-1c\.json"):
        world_read(tmp_path, wanted=1, on_demand_usd_per_h=10, price_share=0.3)


def test_rows_tell_every_policy_and_their_goals():
    row = blend.spot_row(SHAPES[0], days=0.1, seeds=(1,))
    assert {"on demand alone", "blend", "skyserve, 2 extra"} <= set(row.figures)
    assert len(row.goals) == 3
    assert "Spot blend" in table(row)
    (reserved,) = reserved_rows(quick=True)
    assert reserved.goals[0].met
    assert deadline_row(quick=True).figures["uniform progress"]["late"] == 0
