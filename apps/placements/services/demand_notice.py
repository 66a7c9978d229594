"""Usage looked at as demand: what plans are made for follows it when it has moved far enough."""

import logging
from collections.abc import Iterable, Mapping
from datetime import datetime
from uuid import UUID

from django.db import transaction

from apps.deployments.models import Deployment
from apps.fleet import selectors as fleet
from apps.placements.models import DeploymentDemand
from apps.placements.services.placement_request import placement_request
from apps.telemetry import selectors as telemetry
from apps.telemetry.selectors import TrafficQuantiles
from apps.telemetry.services import EventFacts, events_record, steps_roll

logger = logging.getLogger(__name__)

#: Demand has moved when a p95 differs by more than this share of the greater one ...
MOVED_SHARE = 0.2
#: ... and by more than this, which no replica notices.
MOVED_REQUESTS_PER_S, MOVED_TOKENS_PER_S = 0.1, 10.0

_RATES = ("requests_per_s_p50", "requests_per_s_p95", "tokens_per_s_p50", "tokens_per_s_p95")
#: (deployment id, region id of its clients)
_Key = tuple[UUID, UUID]


def demand_notice(*, now: datetime) -> int:
    """Look at the usage of every organization; how many demands have moved, and are planned for anew.

    May run twice, late or beside itself. An organization that fails is logged, and keeps no other waiting.
    """
    steps_roll(now=now)
    moved = 0
    for organization_id in fleet.organization_ids_with_clusters():
        try:
            moved += demand_refresh(organization_id=organization_id, now=now)
        except Exception:
            logger.exception("the demand of organization %s could not be read", organization_id)
    return moved


@transaction.atomic
def demand_refresh(*, organization_id: UUID, now: datetime) -> int:
    """Take over what has moved, and ask for a placement if anything has; how many demands that were."""
    found = {
        (row.deployment_id, row.region_id): row
        for row in telemetry.traffic_quantiles(organization_id=organization_id, now=now)
    }
    held = {
        (row.deployment_id, row.origin_id): row
        for row in DeploymentDemand.objects.select_for_update()
        .filter(deployment__project__organization_id=organization_id, deployment__deletion_requested_at=None)
        .order_by("pk")
    }
    moved = [key for key in sorted(found.keys() | held.keys()) if _has_moved(held.get(key), found.get(key))]
    if not moved:
        return 0
    _store({key: found[key] for key in moved if key in found}, held, now)
    DeploymentDemand.objects.filter(pk__in=[held[key].pk for key in moved if key not in found]).delete()
    _tell(organization_id, moved, held, found)
    placement_request(organization_id=organization_id)
    return len(moved)


def _has_moved(held: DeploymentDemand | None, found: TrafficQuantiles | None) -> bool:
    if found is None:  # a day without a request
        return True
    known = held.known_since if held is not None else None
    if known is None or found.known_since < known:
        return True
    return _far(held, found, "requests_per_s_p95", MOVED_REQUESTS_PER_S) or _far(
        held, found, "tokens_per_s_p95", MOVED_TOKENS_PER_S
    )


def _far(held: DeploymentDemand | None, found: TrafficQuantiles, name: str, least: float) -> bool:
    before, after = getattr(held, name), getattr(found, name)
    return bool(abs(after - before) > max(least, MOVED_SHARE * max(before, after)))


def _store(
    rows: Mapping[_Key, TrafficQuantiles], held: Mapping[_Key, DeploymentDemand], now: datetime
) -> None:
    """Usage goes back to when it was first seen, though of that day nothing counts any more."""
    DeploymentDemand.objects.bulk_create(
        [
            DeploymentDemand(
                deployment_id=row.deployment_id,
                origin_id=row.region_id,
                known_since=min(row.known_since, held[key].known_since if key in held else row.known_since),
                updated_at=now,
                **{name: getattr(row, name) for name in _RATES},
            )
            for key, row in rows.items()
        ],
        update_conflicts=True,
        unique_fields=["deployment", "origin"],
        update_fields=[*_RATES, "known_since", "updated_at"],
    )


def _tell(
    organization_id: UUID,
    moved: Iterable[_Key],
    held: Mapping[_Key, DeploymentDemand],
    found: Mapping[_Key, TrafficQuantiles],
) -> None:
    """One event for each deployment, with its sums over all regions."""
    named = Deployment.objects.filter(pk__in={deployment_id for deployment_id, _ in moved})

    def total(rows: Mapping[_Key, DeploymentDemand] | Mapping[_Key, TrafficQuantiles], wanted: UUID) -> str:
        own = [row for (deployment_id, _), row in rows.items() if deployment_id == wanted]
        requests = sum(row.requests_per_s_p95 for row in own)
        tokens = sum(row.tokens_per_s_p95 for row in own)
        return f"{requests:.3g} requests/s, {tokens:.3g} output tokens/s"

    events_record(
        events=[
            EventFacts(
                organization_id=organization_id,
                project_id=project_id,
                deployment_id=deployment_id,
                reason="DemandMoved",
                message=f"{name}: planned for is now a p95 of {total(found, deployment_id)}"
                f" (before: {total(held, deployment_id)})",
            )
            for deployment_id, name, project_id in named.order_by("pk").values_list(
                "pk", "name", "project_id"
            )
        ]
    )
