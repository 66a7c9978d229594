"""What a key and its project may use in a minute and at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.tables import api_key
from workloadplane.gateway.queueing.rate_limits import Charge, Limited, RateLimiter, duration_text
from workloadplane.protocol.routing import ApiKeyEntry, RateLimits


def key(name: str = "k", project: RateLimits | None = None, **limits: int) -> ApiKeyEntry:
    return api_key(
        name, api_key_id=name, limits=RateLimits(**limits) if limits else None, project_limits=project
    )


def test_a_minutes_worth_at_once_then_an_even_flow() -> None:
    """Sixty a minute: sixty at once, the next after a second, and it says so."""
    limiter, limited = RateLimiter(), key(requests_per_minute=60)
    assert all(isinstance(limiter.admit(limited, 0, 100.0), Charge) for _ in range(60))
    told = limiter.admit(limited, 0, 100.0)
    assert isinstance(told, Limited)
    assert (told.rule, told.limit, told.subject, told.retry_after_s) == ("requests", 60, "key", 1)
    assert isinstance(limiter.admit(limited, 0, 101.0), Charge)
    assert isinstance(limiter.admit(limited, 0, 101.0), Limited)


def test_tokens_are_taken_by_estimate_and_settled() -> None:
    """What was used beyond the estimate is owed; what was not is given back; one too large goes when all is there."""
    limiter, limited = RateLimiter(), key(tokens_per_minute=600)
    first = limiter.admit(limited, 100, 0.0)
    assert isinstance(first, Charge)
    limiter.settle(first, 700)
    limiter.settle(first, 10_000)
    told = limiter.admit(limited, 100, 0.0)
    assert isinstance(told, Limited)
    assert (told.rule, told.retry_after_s) == ("tokens", 20)
    second = limiter.admit(limited, 100, 20.0)
    assert isinstance(second, Charge)
    limiter.settle(second, 0)
    assert isinstance(limiter.admit(limited, 10_000, 60.0), Limited)
    assert isinstance(limiter.admit(limited, 10_000, 70.0), Charge)


def test_requests_at_once_are_counted_until_they_end() -> None:
    """A place is free when a request has ended, however it did."""
    limiter, limited = RateLimiter(), key(concurrent_requests=1)
    charge = limiter.admit(limited, 0, 0.0)
    assert isinstance(charge, Charge)
    told = limiter.admit(limited, 0, 0.0)
    assert isinstance(told, Limited)
    assert told.rule == "concurrency"
    limiter.settle(charge, 0)
    assert isinstance(limiter.admit(limited, 0, 0.0), Charge)


def test_a_projects_limit_binds_all_its_keys_and_nothing_is_taken_by_a_refusal() -> None:
    """The second key meets what the first has used; its own allowance is whole when the project's is again."""
    limiter, project = RateLimiter(), RateLimits(requests_per_minute=1)
    one, two = key("one", project), key("two", project, requests_per_minute=10)
    assert isinstance(limiter.admit(one, 0, 0.0), Charge)
    told = limiter.admit(two, 0, 0.0)
    assert isinstance(told, Limited)
    assert told.subject == "project"
    assert b"x-ratelimit-remaining-requests: 0\r\n" in told.headers
    admitted = limiter.admit(two, 0, 60.0)
    assert isinstance(admitted, Charge)
    assert limiter.admit(api_key("free", api_key_id="free"), 10**9, 60.0) is None


def test_the_headers_are_those_that_clients_know() -> None:
    """Limit, what is left, and when all is there again, for each kind of limit that there is."""
    limiter, limited = RateLimiter(), key(requests_per_minute=100, tokens_per_minute=6000)
    charge = limiter.admit(limited, 1000, 0.0)
    assert isinstance(charge, Charge)
    assert charge.headers == (
        b"x-ratelimit-limit-requests: 100\r\n"
        b"x-ratelimit-remaining-requests: 99\r\n"
        b"x-ratelimit-reset-requests: 600ms\r\n"
        b"x-ratelimit-limit-tokens: 6000\r\n"
        b"x-ratelimit-remaining-tokens: 5000\r\n"
        b"x-ratelimit-reset-tokens: 10s\r\n"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (-1, "0ms"),
        (0.02, "20ms"),
        (1.5, "1.5s"),
        (59.999, "59.999s"),
        (360, "6m0s"),
        (3720, "1h2m0s"),
    ],
)
def test_durations_are_written_as_openai_does(seconds: float, text: str) -> None:
    """So that what parses theirs parses ours."""
    assert duration_text(seconds) == text


def test_a_changed_limit_counts_from_now_and_idle_ones_are_forgotten() -> None:
    """What was used stays used; a key that nobody used for minutes takes no memory."""
    limiter = RateLimiter()
    for _ in range(10):
        charge = limiter.admit(key(requests_per_minute=10), 0, 0.0)
        assert isinstance(charge, Charge)
        limiter.settle(charge, 0)
    raised = key(requests_per_minute=15)
    results = [isinstance(limiter.admit(raised, 0, 0.0), Charge) for _ in range(6)]
    assert results == [True] * 5 + [False]
    limiter.forget(1000.0)
    assert len(limiter) == 1, "five are still running"


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 50), st.integers(0, 80)), max_size=200))
def test_over_any_time_no_more_than_the_bucket_and_the_flow(steps: list[tuple[float, int, int]]) -> None:
    """Whatever comes: requests let in <= burst + rate x time, and used tokens <= the same + one request's surprise."""
    limiter, limited = RateLimiter(), key(requests_per_minute=30, tokens_per_minute=300)
    now_s, admitted, used = 0.0, 0, 0
    for pause_s, estimate, real in steps:
        now_s += pause_s
        charge = limiter.admit(limited, estimate, now_s)
        if isinstance(charge, Charge):
            admitted += 1
            used += real
            limiter.settle(charge, real)
        assert admitted <= 30 + now_s * 0.5 + 1e-6
        assert used <= 300 + now_s * 5 + 80 + 1e-6
