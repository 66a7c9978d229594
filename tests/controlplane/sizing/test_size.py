"""The size of a replica, from what was measured and what is asked."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.sizing import CurvePoint, Goals, Live, Sizing, scaled_by, size
from workloadplane.protocol.refusal import Refusal


def point(concurrency: int, tokens_per_s: float, ttft: float, gap: float) -> CurvePoint:
    return CurvePoint(
        concurrency=concurrency,
        requests_per_s=tokens_per_s / 100,
        tokens_per_s=tokens_per_s,
        ttft_s_p50=ttft / 2,
        ttft_s_p95=ttft,
        inter_token_latency_s_p50=gap / 2,
        inter_token_latency_s_p95=gap,
    )


CURVE = [
    point(1, 50, 0.10, 0.020),
    point(4, 190, 0.15, 0.021),
    point(16, 640, 0.30, 0.025),
    point(64, 1200, 1.30, 0.050),
    point(256, 1210, 6.00, 0.200),
]


def sized(goals: Goals, curve: list[CurvePoint] | None = None) -> Sizing:
    found = size(curve or CURVE, goals, input_tokens_mean=500)
    assert isinstance(found, Sizing), found
    return found


def test_the_most_that_keeps_the_goals_is_taken() -> None:
    """Between two measurements by a straight line; the goal that is met last decides, and is named."""
    found = sized(Goals(ttft_s_p95=0.8, inter_token_latency_s_p95=0.045))
    assert (found.concurrency, found.limited_by) == (40, "ttft")  # 16 + half of the way to 64
    assert found.ttft_s_p95 == pytest.approx(0.8)
    assert found.max_num_seqs == 40
    assert 640 < found.tokens_per_s < 1200
    tight = sized(Goals(ttft_s_p95=0.8, inter_token_latency_s_p95=0.03))
    assert (tight.concurrency, tight.limited_by) == (25, "inter_token_latency")


def test_never_more_than_brings_something() -> None:
    """Without goals: from where throughput grows no more, each further request only waits."""
    found = sized(Goals())
    assert (found.concurrency, found.limited_by) == (64, "throughput")


def test_what_was_not_measured_is_not_promised() -> None:
    """The last point is the most, and it is said that there may be more."""
    found = sized(Goals(ttft_s_p95=5), CURVE[:3])
    assert (found.concurrency, found.limited_by) == (16, "measured")
    assert "it may take more" in " ".join(found.reasons)


def test_a_goal_that_nothing_keeps_is_refused() -> None:
    """With the field, the value that was measured, and what to do."""
    refusal = size(CURVE, Goals(ttft_s_p95=0.05), input_tokens_mean=500)
    assert isinstance(refusal, Refusal)
    assert (refusal.rule, refusal.subject) == ("goal_unreachable", "ttft_s_p95")
    assert "0.1 s at 1" in refusal.value


def test_a_step_takes_the_prompts_that_arrive_in_its_time() -> None:
    """Longer prompts, larger steps; always whole blocks, and room for a token of each answer."""
    short = sized(Goals(ttft_s_p95=0.8))
    long = size(CURVE, Goals(ttft_s_p95=0.8), input_tokens_mean=8000)
    assert isinstance(long, Sizing)
    assert short.max_num_batched_tokens % 256 == long.max_num_batched_tokens % 256 == 0
    assert short.concurrency < short.max_num_batched_tokens < long.max_num_batched_tokens


def test_what_is_seen_live_moves_the_curve() -> None:
    """Twice as slow as measured: fewer fit; what was not seen stays; nonsense moves it four-fold at most."""
    goals = Goals(ttft_s_p95=0.8)
    live = Live(concurrency=16, ttft_s_p95=0.6)
    slower = size(scaled_by(CURVE, live), goals, input_tokens_mean=500)
    assert isinstance(slower, Sizing)
    assert 16 <= slower.concurrency < sized(goals).concurrency
    unseen = scaled_by(CURVE, Live(concurrency=16))
    assert unseen == CURVE
    wild = scaled_by(CURVE, Live(concurrency=16, ttft_s_p95=1e9))
    assert wild[0].ttft_s_p95 == pytest.approx(0.4)


_POINTS = st.lists(
    st.builds(point, st.integers(1, 512), st.floats(1, 1e5), st.floats(1e-3, 100), st.floats(1e-4, 10)),
    min_size=1,
    max_size=8,
    unique_by=lambda each: each.concurrency,
)
_GOAL = st.none() | st.floats(1e-3, 100)


@given(points=_POINTS, ttft=_GOAL, gap=_GOAL, tokens=st.floats(1, 1e5), factor=st.floats(1, 3))
def test_a_size_keeps_its_goals_and_looser_ones_never_take_less(
    points: list[CurvePoint], ttft: float | None, gap: float | None, tokens: float, factor: float
) -> None:
    """Whatever was measured, in whatever order."""
    goals = Goals(ttft_s_p95=ttft, inter_token_latency_s_p95=gap)
    found = size(points, goals, input_tokens_mean=tokens)
    if isinstance(found, Refusal):
        assert goals != Goals()
        return
    assert min(p.concurrency for p in points) <= found.concurrency <= max(p.concurrency for p in points)
    assert ttft is None or found.ttft_s_p95 <= ttft * (1 + 1e-9)
    assert gap is None or found.inter_token_latency_s_p95 <= gap * (1 + 1e-9)
    assert found.max_num_batched_tokens >= found.max_num_seqs == found.concurrency
    if ttft is not None:
        looser = size(points, replace(goals, ttft_s_p95=ttft * factor), input_tokens_mean=tokens)
        assert isinstance(looser, Sizing)
        assert looser.tokens_per_s >= 0.96 * found.tokens_per_s
