"""A deployment's replicas against its demand, as a series of equal steps: what was wanted, what served, what was asked.

What was wanted are the agents' decisions, each in force until the next of its cluster and revision; what served are
the replicas' own lives; what was asked are the gateways' windows.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from apps.agents import selectors as agents
from apps.deployments import selectors as deployments
from apps.deployments.models import Deployment
from apps.fleet import selectors as fleet
from apps.telemetry.models import ScalingDecision
from apps.telemetry.series import WINDOW_LONGEST, step_moments

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
#: Decisions that are looked at: a deployment that changes its mind more often is drawn from its newest on.
_DECISIONS_MAX = 5_000
_DECISIONS_SHOWN = 12


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


def scaling_series(
    *, deployment: Deployment, start: datetime, end: datetime, step: timedelta
) -> list[ScalingPoint]:
    """The steps from ``start`` to ``end``. Raises ValueError for over 1,000 or none."""
    moments = step_moments(start, end, step)
    at_hand = _at_hand(deployment, moments, end, step)
    wanted = wanted_by_step(_decisions(deployment, start, end), moments, step)
    lives = agents.replica_lives(deployment=deployment, start=start, end=end)
    return [
        ScalingPoint(
            at=at,
            at_hand=at_hand.get(at),
            wanted=count,
            ready=sum(begun <= at + step and (ended is None or ended > at + step) for begun, ended in lives),
        )
        for at, count in zip(moments, wanted, strict=True)
    ]


def _at_hand(
    deployment: Deployment, moments: Sequence[datetime], end: datetime, step: timedelta
) -> Mapping[datetime, float]:
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


def decisions_newest(*, deployment: Deployment) -> list[Decided]:
    """What each cluster decided last for each revision that it still wants, or wanted last; the newest first."""
    rows = (
        ScalingDecision.objects.filter(deployment_id=deployment.pk)
        .order_by("cluster_id", "revision_id", "-decided_at")
        .distinct("cluster_id", "revision_id")
    )
    newest = sorted(rows, key=lambda row: row.decided_at, reverse=True)
    wanted = [row for row in newest if row.replicas] or newest[:1]
    shown = wanted[:_DECISIONS_SHOWN]
    clusters = fleet.cluster_names(cluster_ids=[row.cluster_id for row in shown])
    numbers = deployments.revision_numbers(deployment=deployment)
    return [
        Decided(
            cluster=clusters.get(row.cluster_id, ""),
            revision=numbers.get(row.revision_id, 0),
            decided_at=row.decided_at,
            policy=row.policy,
            replicas=row.replicas,
            ready=row.ready,
            at_hand=row.at_hand,
            reasons=tuple(row.reasons),
        )
        for row in shown
    ]


def _decisions(deployment: Deployment, start: datetime, end: datetime) -> list[Wanted]:
    """Those of the time, and of each cluster and revision the last before it, in their order."""
    found = ScalingDecision.objects.filter(deployment_id=deployment.pk)
    names = ("cluster_id", "revision_id", "decided_at", "replicas")
    before = (
        found.filter(decided_at__lt=start)
        .order_by("cluster_id", "revision_id", "-decided_at")
        .distinct("cluster_id", "revision_id")
        .values_list(*names)
    )
    within = found.filter(decided_at__gte=start, decided_at__lt=end).order_by("-decided_at")
    rows = [*before, *within.values_list(*names)[:_DECISIONS_MAX]]
    return sorted(
        (Wanted((str(cluster), str(revision)), at, count) for cluster, revision, at, count in rows),
        key=lambda each: each.decided_at,
    )


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
        while taken < len(waiting) and waiting[taken].decided_at < at + step:
            in_force[waiting[taken].who] = waiting[taken].replicas
            most = max(most or 0, sum(in_force.values()))
            taken += 1
        by_step.append(most)
    return by_step
