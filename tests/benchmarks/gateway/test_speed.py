"""The bench itself: that a row can be measured and judged, in a second, without the peers."""

import pytest

from tests.benchmarks.gateway.candidates import MERIDIAN, cores
from tests.benchmarks.gateway.rows import DIRECT, Plan, fast_streams, small_posts
from tests.benchmarks.goals import table

PLAN = Plan(cores=cores(), runs=1, seconds=0.2, idle_connections=10, with_peers=False)


@pytest.mark.slow
def test_a_row_is_measured_and_judged():
    """A row carries figures for gateway and upstream, and says of each goal what it was held against."""
    row = small_posts(PLAN)
    assert not row.faults
    assert row.figures[MERIDIAN]["per_s"] > 100
    assert row.figures[DIRECT]["per_s"] > row.figures[MERIDIAN]["per_s"]
    told = table(row)
    assert "req/s ≥ 20,000" in told and MERIDIAN in told


@pytest.mark.slow
def test_streams_are_counted_by_their_stamps():
    """Events that come through the gateway are counted, with the delay since the upstream sent each."""
    row = fast_streams(PLAN)
    assert not row.faults
    assert row.figures[MERIDIAN]["per_s"] > 100
    assert 0 < row.figures[MERIDIAN]["p50_ms"] < 10_000
