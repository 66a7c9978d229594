"""A deployment's replicas against its demand, as a series of equal steps: what was wanted, what served, what was asked.

What was wanted are the agents' decisions, each in force until the next of its cluster and revision; what served are
the replicas' own lives; what was asked are the gateways' windows.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from apps.deployments.models import Deployment
from apps.telemetry.series import WINDOW_LONGEST

# Windows tell the most that was at hand at once; of several gateways the sum is what there may have been at once.
_AT_HAND = """
SELECT at, sum(most) FROM (
    SELECT steps.at, w.gateway_instance, w.revision_id, max(w.in_flight_max + w.waiting_max) AS most
    FROM telemetry_metricwindow w
    JOIN generate_series(%(start)s, %(last)s, %(step)s) AS steps(at)
      ON w.started_at < steps.at + %(step)s AND w.ended_at > steps.at
    WHERE w.deployment_id = %(deployment_id)s
      AND w.started_at > %(start)s - %(longest)s AND w.started_at < %(end)s
    GROUP BY 1, 2, 3
) AS by_gateway GROUP BY at
"""


@dataclass(frozen=True)
class ScalingPoint:
    """One step. ``at_hand`` and ``wanted``: the most in it, None where nothing was told; ``ready``: at its end."""

    at: datetime
    at_hand: float | None
    wanted: int | None
    ready: int


@dataclass(frozen=True)
class Decided:
    """The newest decision for one revision in one cluster."""

    cluster: str
    revision: int
    decided_at: datetime
    policy: str
    replicas: int
    ready: int
    at_hand: float | None
    reasons: tuple[str, ...]


def at_hand_by_step(
    deployment: Deployment, moments: Sequence[datetime], end: datetime, step: timedelta
) -> Mapping[datetime, float]:
    """The most requests in flight and waiting in each step in which a gateway told of some."""
    parameters: dict[str, Any] = {
        "deployment_id": deployment.pk,
        "start": moments[0],
        "last": moments[-1],
        "end": end,
        "step": step,
        "longest": WINDOW_LONGEST,
    }
    with connection.cursor() as cursor:
        cursor.execute(_AT_HAND, parameters)
        return {at: float(most) for at, most in cursor.fetchall()}


@dataclass(frozen=True, slots=True)
class Wanted:
    """``who`` wants so many from then on. Who: a cluster and a revision."""

    who: tuple[str, str]
    decided_at: datetime
    replicas: int


def wanted_by_step(
    decisions: Iterable[Wanted], moments: Sequence[datetime], step: timedelta
) -> list[int | None]:
    """The most replicas that were wanted at once within each step; None before the first decision. Pure.

    ``decisions`` in the order of their times.
    """
    waiting = list(decisions)
    in_force: dict[tuple[str, str], int] = {}
    by_step: list[int | None] = []
    taken = 0
    for at in moments:
        while taken < len(waiting) and waiting[taken].decided_at <= at:
            in_force[waiting[taken].who] = waiting[taken].replicas
            taken += 1
        most = sum(in_force.values()) if in_force else None
        while taken < len(waiting) and waiting[taken].decided_at - at < step:
            in_force[waiting[taken].who] = waiting[taken].replicas
            most = max(most or 0, sum(in_force.values()))
            taken += 1
        by_step.append(most)
    return by_step
