"""Retries are a share of the traffic."""

from hypothesis import given
from hypothesis import strategies as st

from workloadplane.health.budget import RetryBudget


def test_in_an_outage_a_tenth_of_the_traffic_is_sent_again() -> None:
    """When every request fails: the reserve, and then one retry for ten requests."""
    budget = RetryBudget(0.0)
    retried = 0
    for _ in range(10_000):
        budget.request()
        retried += budget.retry(0.0)
    assert 1_000 <= retried <= 1_101


def test_quiet_deployments_can_retry_too() -> None:
    """The reserve comes back by itself, one a second."""
    budget = RetryBudget(0.0)
    assert sum(budget.retry(0.0) for _ in range(200)) == 100
    assert not budget.retry(0.5)
    assert sum(budget.retry(20.0) for _ in range(200)) == 20


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 5)), max_size=300))
def test_never_more_than_reserve_share_and_time_allow(course: list[tuple[bool, float]]) -> None:
    """Over any course."""
    budget, now_s, requests, retried = RetryBudget(0.0), 0.0, 0, 0
    for is_retry, pause_s in course:
        now_s += pause_s
        if is_retry:
            retried += budget.retry(now_s)
        else:
            requests += 1
            budget.request()
        assert retried <= 100 + 0.1 * requests + now_s + 1e-6
