"""Traffic by steps of five minutes: how much a region's clients ask of a deployment, over a day.

Windows are many, steps are few: placement looks at a day of them every minute. A step counts by the windows that began
in it; one that arrives more than ``LATE`` after it began is in bills and charts, but not here.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection

STEP = timedelta(minutes=5)
HORIZON = timedelta(hours=24)
LATE = timedelta(hours=1)

_ROLL = """
INSERT INTO telemetry_trafficstep (deployment_id, region_id, at, requests, output_tokens)
SELECT w.deployment_id, c.region_id, date_bin(%(step)s::interval, w.started_at, 'epoch'),
       sum(w.requests), sum(w.output_tokens)
FROM telemetry_metricwindow w JOIN fleet_cluster c ON c.id = w.cluster_id
WHERE w.started_at >= %(since)s AND w.started_at < %(now)s
GROUP BY 1, 2, 3
ON CONFLICT (deployment_id, region_id, at)
DO UPDATE SET requests = excluded.requests, output_tokens = excluded.output_tokens
"""

# The rank is counted over all steps since the deployment's first; those without traffic are no rows, and the lowest.
_QUANTILES = """
WITH found AS (
    SELECT s.deployment_id, s.region_id, s.requests, s.output_tokens,
           min(s.at) OVER (PARTITION BY s.deployment_id) AS first
    FROM telemetry_trafficstep s
    JOIN deployments_deployment d ON d.id = s.deployment_id AND d.deletion_requested_at IS NULL
    JOIN accounts_project p ON p.id = d.project_id
    WHERE p.organization_id = %(organization_id)s AND s.at >= %(start)s AND s.at < %(end)s
), ranked AS (
    SELECT deployment_id, region_id, min(first) AS first, count(*) AS rows,
           round(extract(epoch FROM %(end)s - min(first)) / %(step_s)s)::int AS steps,
           array_agg(requests ORDER BY requests) AS requests,
           array_agg(output_tokens ORDER BY output_tokens) AS output_tokens
    FROM found GROUP BY deployment_id, region_id
)
SELECT deployment_id, region_id, first,
       coalesce(requests[ceil(0.5 * steps)::int - (steps - rows)], 0),
       coalesce(requests[ceil(0.95 * steps)::int - (steps - rows)], 0),
       coalesce(output_tokens[ceil(0.5 * steps)::int - (steps - rows)], 0),
       coalesce(output_tokens[ceil(0.95 * steps)::int - (steps - rows)], 0)
FROM ranked ORDER BY deployment_id, region_id
"""


@dataclass(frozen=True)
class TrafficQuantiles:
    """Rates per second, over the steps since the deployment's first traffic, a day back at most."""

    deployment_id: UUID
    region_id: UUID
    known_since: datetime
    requests_per_s_p50: float
    requests_per_s_p95: float
    tokens_per_s_p50: float
    tokens_per_s_p95: float


def steps_roll(*, now: datetime) -> None:
    """Sum windows up into steps, those of the last hour anew. May run twice, late or beside itself."""
    since = _step_start(now - LATE)
    with connection.cursor() as cursor:
        cursor.execute(_ROLL, {"step": f"{STEP.total_seconds():g} s", "since": since, "now": now})


def traffic_quantiles(*, organization_id: UUID, now: datetime) -> list[TrafficQuantiles]:
    """Of an organization's deployments, by the region that met the clients; the step that runs is left out."""
    end = _step_start(now)
    parameters: dict[str, Any] = {
        "organization_id": organization_id,
        "start": end - HORIZON,
        "end": end,
        "step_s": STEP.total_seconds(),
    }
    with connection.cursor() as cursor:
        cursor.execute(_QUANTILES, parameters)
        rows = cursor.fetchall()
    step_s = STEP.total_seconds()
    return [
        TrafficQuantiles(deployment_id, region_id, first, *(float(total) / step_s for total in totals))
        for deployment_id, region_id, first, *totals in rows
    ]


def _step_start(moment: datetime) -> datetime:
    step_s = int(STEP.total_seconds())
    return datetime.fromtimestamp(moment.timestamp() // step_s * step_s, tz=UTC)
