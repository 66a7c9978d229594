"""What replicas were measured to do, as charts and the size that follows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from apps.catalog.models import PerformanceProfile
from apps.catalog.selectors import profile_sizing
from apps.console.charts import LineChart, Series, chart
from apps.console.formatting import duration, number
from apps.telemetry.selectors import Point, ScalingPoint
from controlplane.sizing import Goals, Live, Sizing
from workloadplane.protocol.refusal import Refusal

_TICKS_MAX = 8


@dataclass(frozen=True)
class ProfileView:
    """A profile; without a curve there are no charts. ``refusal``: why no size keeps its goals."""

    profile: PerformanceProfile
    sizing: Sizing | None
    refusal: Refusal | None
    charts: tuple[LineChart, ...]


def profile_view(
    profile: PerformanceProfile, *, goals: Goals | None = None, live: Live | None = None
) -> ProfileView:
    """By its own goals, or by these; moved to what is seen live."""
    found = profile_sizing(profile, goals=goals, live=live)
    return ProfileView(
        profile=profile,
        sizing=found if isinstance(found, Sizing) else None,
        refusal=found if isinstance(found, Refusal) else None,
        charts=_charts(profile) if profile.curve else (),
    )


def live_of(points: Sequence[Point], scaling: Sequence[ScalingPoint]) -> Live | None:
    """What replicas do now: the means of these steps in which something was served; None if nothing was."""
    busy = [
        (point, step.at_hand / step.ready)
        for point, step in zip(points, scaling, strict=True)
        if point.ttft_s_p95 is not None and step.at_hand and step.ready
    ]
    if not busy:
        return None
    return Live(
        concurrency=_mean([at_hand for _, at_hand in busy]) or 0.0,
        ttft_s_p95=_mean([point.ttft_s_p95 for point, _ in busy]),
        inter_token_latency_s_p95=_mean([point.inter_token_latency_s_p95 for point, _ in busy]),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _charts(profile: PerformanceProfile) -> tuple[LineChart, ...]:
    return (
        _chart(
            profile, "Throughput of a replica", "output tokens / s", {"tokens / s": "tokens_per_s"}, number
        ),
        _chart(
            profile,
            "Time to first token",
            "seconds",
            {"p50": "ttft_s_p50", "p95": "ttft_s_p95"},
            duration,
            goal=profile.slo_ttft_s_p95,
        ),
        _chart(
            profile,
            "Inter-token latency",
            "seconds",
            {"p50": "inter_token_latency_s_p50", "p95": "inter_token_latency_s_p95"},
            duration,
            goal=profile.slo_inter_token_latency_s_p95,
        ),
    )


def _chart(
    profile: PerformanceProfile,
    title: str,
    unit: str,
    read: Mapping[str, str],
    print_value: Callable[[float], str],
    *,
    goal: float | None = None,
) -> LineChart:
    """``read``: a line's label -> the field of the curve's points that it shows."""
    labels = [str(point["concurrency"]) for point in profile.curve]
    every = -(-len(labels) // _TICKS_MAX)
    return chart(
        chart_id=f"{next(iter(read.values()))}-{profile.pk}",
        title=title,
        unit=unit,
        across="Side by side",
        labels=labels,
        x_ticks=[(index, label) for index, label in enumerate(labels) if index % every == 0],
        series=[
            Series(label, tuple(float(point[name]) for point in profile.curve))
            for label, name in read.items()
        ],
        print_value=print_value,
        goal=goal,
    )
