"""The bench itself: that its smallest rows are measured and judged."""

import pytest

from controlplane.placement import solve
from tests.benchmarks.goals import table
from tests.benchmarks.placement import database, day, events, rivals, solving
from tests.benchmarks.placement.instances import instance
from tests.benchmarks.placement.policies import POLICIES
from tests.benchmarks.placement.solving import FIRST, Size

TINY = Size(6, 8, 3)


@pytest.mark.slow
def test_a_search_is_measured_in_a_process_of_its_own():
    row = solving.row("tiny", "6 deployments", TINY, (0.5,), (1,))
    assert set(row.figures) == {FIRST, "0.5 s"}
    assert row.figures[FIRST]["took_s"] < 5
    assert row.figures["0.5 s"]["rss_gib"] > 0
    assert "6 deployments" in table(row)


@pytest.mark.slow
def test_an_event_is_walked_through_a_database_of_its_own():
    row = database.row(TINY, 1)
    assert set(row.figures) == {"first plan", "200 new deployments", *(kind for kind, _ in database.KINDS)}
    assert row.figures["first plan"]["adopted"] == 6


def test_every_policy_is_compared_for_what_it_serves():
    problem = TINY.made(2)
    found = rivals.matches(problem, lambda asked: solving.within(asked, 0.2), survive=True)
    assert set(found) == set(POLICIES)
    assert all(match.broken == 0 for match in found.values())
    smaller, plan = rivals.only(problem, solving.within(problem, 0.2), {"d-0000", "d-0003"})
    assert [one.deployment_id for one in smaller.deployments] == ["d-0000", "d-0003"]
    assert {entry.deployment_id for entry in plan.deployments} == {"d-0000", "d-0003"}
    assert {row.deployment_id for row in smaller.demands} <= {"d-0000", "d-0003"}


def test_a_day_is_played_against_every_planner():
    row = day.row(TINY, range(1, 2), hours=2, search_s=0.2)
    assert set(row.figures) == {day.OURS, *POLICIES}
    assert all(0 <= figures["unserved_pct"] <= 100 for figures in row.figures.values())


def test_events_touch_few_and_leave_the_others_where_they_are():
    problem = instance(deployments=30, pools=12, regions=4, seed=1)
    figures, faults = events.measured(problem, solve(problem), 10, seed=1)
    assert faults == []
    assert 0 < figures["touched"] < 30
    assert 0 < figures["p50_ms"] <= figures["p99_ms"]
