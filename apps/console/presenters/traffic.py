"""Traffic as figures and charts."""

from collections.abc import Sequence
from dataclasses import dataclass

from apps.console.charts import LineChart, Series, line_chart
from apps.console.formatting import duration, number
from apps.deployments.models import Deployment
from apps.telemetry.selectors import Point, ScalingPoint


@dataclass(frozen=True)
class Traffic:
    """Rates over the last minute."""

    requests_per_s: float
    output_tokens_per_s: float
    error_percent: float


def traffic_of(points: Sequence[Point]) -> Traffic:
    """The mean of these steps."""
    count = max(1, len(points))
    requests_per_s = sum(point.requests_per_s for point in points) / count
    errors_per_s = sum(point.errors_per_s for point in points) / count
    return Traffic(
        requests_per_s=requests_per_s,
        output_tokens_per_s=sum(point.output_tokens_per_s for point in points) / count,
        error_percent=100.0 * errors_per_s / requests_per_s if requests_per_s else 0.0,
    )


def traffic_charts(points: Sequence[Point], deployment: Deployment) -> tuple[LineChart, ...]:
    """Time to first token, inter-token latency and throughput; the deployment's SLO as their goals."""
    moments = [point.at for point in points]
    return (
        line_chart(
            chart_id="ttft",
            title="Time to first token",
            unit="seconds",
            moments=moments,
            series=[
                Series("p50", tuple(point.ttft_s_p50 for point in points)),
                Series("p95", tuple(point.ttft_s_p95 for point in points)),
            ],
            print_value=duration,
            goal=deployment.slo_ttft_s_p95,
        ),
        line_chart(
            chart_id="itl",
            title="Inter-token latency",
            unit="seconds",
            moments=moments,
            series=[
                Series("p50", tuple(point.inter_token_latency_s_p50 for point in points)),
                Series("p95", tuple(point.inter_token_latency_s_p95 for point in points)),
            ],
            print_value=duration,
            goal=deployment.slo_inter_token_latency_s_p95,
        ),
        line_chart(
            chart_id="throughput",
            title="Throughput",
            unit="output tokens / s",
            moments=moments,
            series=[Series("tokens / s", tuple(point.output_tokens_per_s for point in points))],
            print_value=number,
        ),
    )


def scaling_chart(points: Sequence[ScalingPoint], deployment: Deployment) -> LineChart:
    """Replicas that served and were wanted, and how many the requests at hand would have kept at their target."""
    target = deployment.autoscaling.concurrency_target
    return line_chart(
        chart_id="scaling",
        title="Replicas against demand",
        unit="replicas",
        moments=[point.at for point in points],
        series=[
            Series("ready", tuple(float(point.ready) for point in points)),
            Series("wanted", tuple(None if p.wanted is None else float(p.wanted) for p in points)),
            Series("demand", tuple(None if p.at_hand is None else p.at_hand / target for p in points)),
        ],
        print_value=number,
    )
