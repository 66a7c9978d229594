"""The curve of one replica: what it does, and how soon, at rising concurrencies."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

#: What is seen live may differ from what was measured by this factor at most: beyond it, it is not the same replica.
_LIVE_FACTOR_MAX = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """So many requests side by side, and what came of it. Latencies in seconds, as clients of one replica see them."""

    concurrency: int
    requests_per_s: float
    tokens_per_s: float
    ttft_s_p50: float
    ttft_s_p95: float
    inter_token_latency_s_p50: float
    inter_token_latency_s_p95: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What replicas do now. ``concurrency``: requests in flight for each; latencies None where nothing was seen."""

    concurrency: float
    ttft_s_p95: float | None = None
    inter_token_latency_s_p95: float | None = None


def rising(points: Sequence[CurvePoint]) -> list[CurvePoint]:
    """In the order of concurrency, latencies never falling: where they do, a measurement was noisy."""
    found: list[CurvePoint] = []
    for point in sorted(points, key=lambda each: each.concurrency):
        before = found[-1] if found else point
        found.append(
            replace(
                point,
                ttft_s_p95=max(point.ttft_s_p95, before.ttft_s_p95),
                inter_token_latency_s_p95=max(
                    point.inter_token_latency_s_p95, before.inter_token_latency_s_p95
                ),
            )
        )
    return found


def at(points: Sequence[CurvePoint], concurrency: float, read: Callable[[CurvePoint], float]) -> float:
    """A value between two measured points, linear; at the ends that of the end. ``points`` in order, not empty."""
    if concurrency <= points[0].concurrency:
        return read(points[0])
    for left, right in pairwise(points):
        if concurrency <= right.concurrency:
            share = (concurrency - left.concurrency) / (right.concurrency - left.concurrency)
            return read(left) + share * (read(right) - read(left))
    return read(points[-1])


def scaled_by(points: Sequence[CurvePoint], live: Live) -> list[CurvePoint]:
    """The curve with its latencies as they are now: raised or lowered by how far the live ones are from it."""
    ordered = rising(points)
    ttft = _factor(live.ttft_s_p95, at(ordered, live.concurrency, lambda point: point.ttft_s_p95))
    gap = _factor(
        live.inter_token_latency_s_p95,
        at(ordered, live.concurrency, lambda point: point.inter_token_latency_s_p95),
    )
    return [
        replace(
            point,
            ttft_s_p50=point.ttft_s_p50 * ttft,
            ttft_s_p95=point.ttft_s_p95 * ttft,
            inter_token_latency_s_p50=point.inter_token_latency_s_p50 * gap,
            inter_token_latency_s_p95=point.inter_token_latency_s_p95 * gap,
        )
        for point in ordered
    ]


def _factor(seen: float | None, measured: float) -> float:
    if seen is None or seen <= 0 or measured <= 0:
        return 1.0
    return min(max(seen / measured, 1 / _LIVE_FACTOR_MAX), _LIVE_FACTOR_MAX)
