"""The routing rows' own parts: what is asked, and the oracle that answers are held against."""

import json

import pytest

from tests.benchmarks.gateway.candidates import MERIDIAN, cores
from tests.benchmarks.gateway.conversations import bodies, multi_turn, of_trace
from tests.benchmarks.gateway.quality import IMBALANCE_MAX, _row, as_served, oracle_share
from tests.benchmarks.gateway.rows import Plan
from tests.benchmarks.gateway.simulated import simulate
from workloadplane.routing import Policy


def test_a_trace_becomes_prompts_that_share_what_its_blocks_share(tmp_path):
    """Two requests with a common first block begin with the same text, and an oracle finds it cached."""
    rows = [
        {"timestamp": 0, "input_length": 1024, "output_length": 8, "hash_ids": [1, 2]},
        {"timestamp": 1000, "input_length": 1024, "output_length": 8, "hash_ids": [1, 3]},
    ]
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    first, second = of_trace(path, within_s=1.0, limit=None)
    assert second.begins_s == 1.0
    assert first.turns[0].text[:384] == second.turns[0].text[:384]
    assert first.turns[0].text != second.turns[0].text
    asked = [as_served(next(bodies(each))[1]) for each in (first, second)]
    assert 0.15 < oracle_share(asked) < 0.3  # a quarter, but for what no block covers
    assert oracle_share([asked[0], asked[0]]) > 0.4


@pytest.mark.parametrize("seed", [101, 102])
def test_conversations_find_their_caches_and_leave_no_replica_hot(seed):
    """In simulated time: nearly all that an oracle would have spared is spared, and all replicas work alike."""
    came = simulate(multi_turn(within_s=20.0, conversations=130, seed=seed), Policy())
    assert came.cached_share >= 0.95 * oracle_share(came.asked)
    assert came.imbalance <= IMBALANCE_MAX


@pytest.mark.slow
def test_conversations_are_replayed_over_real_replicas():
    """Turns of conversations go through the gateway to simulated engines, and caches spare what they can."""
    plan = Plan(cores=cores(), runs=1, seconds=1.0, idle_connections=0, with_peers=False)
    row = _row("turns", "a few", multi_turn(within_s=1.0, conversations=4), plan, runs=1)
    assert not row.faults
    assert 0.1 < row.figures[MERIDIAN]["cached_share"] <= 1.0
    assert row.figures[MERIDIAN]["ttft_p90_ms"] > 0


def test_the_seer_finds_what_can_be_found_in_time_and_keeps_the_balance() -> None:
    """For the balance it leaves some of what is cached; it finds no more than one to whom nothing takes time."""
    seer = simulate(multi_turn(within_s=20.0, conversations=60, seed=3), None)
    oracle = oracle_share(seer.asked)
    assert 0.9 * oracle <= seer.cached_share <= oracle
    assert seer.imbalance <= IMBALANCE_MAX
