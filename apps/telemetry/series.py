"""A deployment's traffic as a series of equal steps, for charts.

Windows of different gateways do not begin together, so each is shared out over the steps that it overlaps, by the
share of its time: sums over any stretch stay what was measured, and a step is not high or low by where windows fall.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from apps.deployments.models import Deployment
from apps.telemetry.histograms import quantile_s
from workloadplane.protocol.usage import LATENCY_BUCKETS_S
from workloadplane.words import counted

STEPS_MAX = 1000
#: No gateway's window is longer; so the index on ``started_at`` bounds what is read.
WINDOW_LONGEST = timedelta(hours=1)

_SHARES = """
WITH steps AS (
    SELECT at, at + %(step)s AS until FROM generate_series(%(start)s, %(last)s, %(step)s) AS at
), shares AS (
    SELECT steps.at, w.*,
           extract(epoch FROM least(w.ended_at, steps.until) - greatest(w.started_at, steps.at))
           / extract(epoch FROM w.ended_at - w.started_at) AS share
    FROM telemetry_metricwindow w
    JOIN steps ON w.started_at < steps.until AND w.ended_at > steps.at
    WHERE w.deployment_id = %(deployment_id)s AND w.ended_at > w.started_at
      AND w.started_at > %(start)s - %(longest)s AND w.started_at < %(end)s
)
"""

_TOTALS = f"""{_SHARES}
SELECT at, sum(share * requests), sum(share * errors), sum(share * input_tokens), sum(share * output_tokens)
FROM shares GROUP BY at
"""  # noqa: S608  (constants only)

_HISTOGRAMS = f"""{_SHARES}
SELECT at, bucket.number::int, sum(share * ttft), sum(share * inter_token_latency)
FROM shares, unnest(ttft_counts, inter_token_latency_counts)
     WITH ORDINALITY AS bucket(ttft, inter_token_latency, number)
GROUP BY at, bucket.number
"""  # noqa: S608


@dataclass(frozen=True)
class Point:
    """One step. Latencies are None where nothing was counted, rates are 0 there."""

    at: datetime
    requests_per_s: float
    errors_per_s: float
    input_tokens_per_s: float
    output_tokens_per_s: float
    ttft_s_p50: float | None
    ttft_s_p90: float | None
    ttft_s_p95: float | None
    ttft_s_p99: float | None
    inter_token_latency_s_p50: float | None
    inter_token_latency_s_p90: float | None
    inter_token_latency_s_p95: float | None
    inter_token_latency_s_p99: float | None


def step_moments(start: datetime, end: datetime, step: timedelta) -> list[datetime]:
    """When each step begins. Raises ValueError for over 1,000 or none."""
    steps = -(-(end - start) // step) if step > timedelta(0) else 0
    if not 1 <= steps <= STEPS_MAX:
        raise ValueError(f"from, to and step make {counted(steps, 'step')}; 1 to {STEPS_MAX} are offered")
    return [start + index * step for index in range(steps)]


def latency_series(*, deployment: Deployment, start: datetime, end: datetime, step: timedelta) -> list[Point]:
    """The steps from ``start`` to ``end``, also those without traffic. Raises ValueError for over 1,000 or none."""
    moments = step_moments(start, end, step)
    parameters: dict[str, Any] = {
        "deployment_id": deployment.pk,
        "start": start,
        "last": moments[-1],
        "end": end,
        "step": step,
        "longest": WINDOW_LONGEST,
    }
    nothing = [0.0] * (len(LATENCY_BUCKETS_S) + 1)
    ttft = {at: list(nothing) for at in moments}
    inter_token_latency = {at: list(nothing) for at in moments}
    with connection.cursor() as cursor:
        cursor.execute(_TOTALS, parameters)
        totals = {row[0]: [float(value) for value in row[1:]] for row in cursor.fetchall()}
        cursor.execute(_HISTOGRAMS, parameters)
        for at, number, ttft_count, inter_token_latency_count in cursor.fetchall():
            ttft[at][number - 1] = float(ttft_count)
            inter_token_latency[at][number - 1] = float(inter_token_latency_count)
    return [
        _point(at, totals.get(at, [0.0] * 4), ttft[at], inter_token_latency[at], step.total_seconds())
        for at in moments
    ]


def _point(
    at: datetime, totals: list[float], ttft: list[float], inter_token_latency: list[float], step_s: float
) -> Point:
    requests, errors, input_tokens, output_tokens = (total / step_s for total in totals)
    return Point(
        at=at,
        requests_per_s=requests,
        errors_per_s=errors,
        input_tokens_per_s=input_tokens,
        output_tokens_per_s=output_tokens,
        ttft_s_p50=quantile_s(ttft, 0.5),
        ttft_s_p90=quantile_s(ttft, 0.9),
        ttft_s_p95=quantile_s(ttft, 0.95),
        ttft_s_p99=quantile_s(ttft, 0.99),
        inter_token_latency_s_p50=quantile_s(inter_token_latency, 0.5),
        inter_token_latency_s_p90=quantile_s(inter_token_latency, 0.9),
        inter_token_latency_s_p95=quantile_s(inter_token_latency, 0.95),
        inter_token_latency_s_p99=quantile_s(inter_token_latency, 0.99),
    )
