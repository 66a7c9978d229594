"""Traffic as figures and charts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from apps.console.charts import LineChart, Series, line_chart
from apps.console.formatting import duration, number
from apps.deployments.models import Deployment


@dataclass(frozen=True)
class Sample:
    """One step of a deployment's traffic; latencies are None where nothing was served."""

    at: datetime
    requests_per_s: float
    errors_per_s: float
    output_tokens_per_s: float
    ttft_s_p50: float | None
    ttft_s_p95: float | None
    inter_token_latency_s_p50: float | None
    inter_token_latency_s_p95: float | None


@dataclass(frozen=True)
class Traffic:
    """Rates over the last minute."""

    requests_per_s: float
    output_tokens_per_s: float
    error_percent: float


def traffic_of(samples: Sequence[Sample]) -> Traffic:
    """The mean of these samples."""
    count = max(1, len(samples))
    requests_per_s = sum(sample.requests_per_s for sample in samples) / count
    errors_per_s = sum(sample.errors_per_s for sample in samples) / count
    return Traffic(
        requests_per_s=requests_per_s,
        output_tokens_per_s=sum(sample.output_tokens_per_s for sample in samples) / count,
        error_percent=100.0 * errors_per_s / requests_per_s if requests_per_s else 0.0,
    )


def traffic_charts(samples: Sequence[Sample], deployment: Deployment) -> tuple[LineChart, ...]:
    """Time to first token, inter-token latency and throughput; the deployment's SLO as their goals."""
    moments = [sample.at for sample in samples]
    return (
        line_chart(
            chart_id="ttft",
            title="Time to first token",
            unit="seconds",
            moments=moments,
            series=[
                Series("p50", tuple(sample.ttft_s_p50 for sample in samples)),
                Series("p95", tuple(sample.ttft_s_p95 for sample in samples)),
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
                Series("p50", tuple(sample.inter_token_latency_s_p50 for sample in samples)),
                Series("p95", tuple(sample.inter_token_latency_s_p95 for sample in samples)),
            ],
            print_value=duration,
            goal=deployment.slo_inter_token_latency_s_p95,
        ),
        line_chart(
            chart_id="throughput",
            title="Throughput",
            unit="output tokens / s",
            moments=moments,
            series=[Series("tokens / s", tuple(sample.output_tokens_per_s for sample in samples))],
            print_value=number,
        ),
    )
