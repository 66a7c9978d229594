"""Recorded losses and launches looked at as hazard and obtainability: plans reckon with what was learned."""

import logging
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction

from apps.agents import selectors as agents
from apps.api.actors import system_actor
from apps.drains import selectors as drains
from apps.fleet import selectors as fleet
from apps.fleet.models import GpuPool, Procurement
from apps.fleet.services import pools_learned_store
from apps.placements.services.placement_request import placement_request
from apps.telemetry.services import EventFacts, events_record
from controlplane.procurement.learning import (
    LOOKED_BACK_S,
    HeldSpan,
    Launched,
    Learned,
    PoolStated,
    TakenBack,
    learn,
    spot_group,
)

logger = logging.getLogger(__name__)


def hazards_learn(*, now: datetime) -> int:
    """Look at the spot pools of every organization; of how many something else is believed now.

    May run twice, late or beside itself. An organization that fails is logged, and keeps no other waiting.
    """
    moved = 0
    for organization_id in fleet.organization_ids_with_clusters():
        try:
            moved += _refresh(organization_id, now)
        except Exception:
            logger.exception("what was seen of organization %s's pools could not be read", organization_id)
    return moved


@transaction.atomic
def _refresh(organization_id: UUID, now: datetime) -> int:
    actor = system_actor("placement", organization_id=organization_id)
    pools = list(
        fleet.pools(actor=actor, procurement=Procurement.SPOT).prefetch_related("cluster__failure_domains")
    )
    if not pools:
        return 0
    moved = pools_learned_store(learned=_learned(pools, now))
    if moved:
        _tell(organization_id, moved)
        placement_request(organization_id=organization_id)
    return len(moved)


def _learned(pools: list[GpuPool], now: datetime) -> dict[str, Learned]:
    pool_ids, since = [pool.pk for pool in pools], now - timedelta(seconds=LOOKED_BACK_S)
    gpus = {pool.pk: pool.instance_type.gpus for pool in pools}
    return dict(
        learn(
            [_stated(pool) for pool in pools],
            held=[
                HeldSpan(
                    pool_id=str(row.pool_id),
                    since_s=max(row.started_at, since).timestamp(),
                    until_s=None if row.ended_at is None else row.ended_at.timestamp(),
                    instances=row.gpus / gpus[row.pool_id],
                )
                for row in agents.gpus_spans(pool_ids=pool_ids, since=since)
            ],
            taken_back=[
                TakenBack(
                    pool_id=str(row.pool_id), at_s=row.at.timestamp(), instances=None if row.whole else 1.0
                )
                for row in drains.taken_back(pool_ids=pool_ids, since=since)
            ],
            launched=[
                Launched(pool_id=str(row.pool_id), at_s=row.at.timestamp(), had=row.had)
                for row in agents.launches(pool_ids=pool_ids, since=since)
            ],
            now_s=now.timestamp(),
        )
    )


def _stated(pool: GpuPool) -> PoolStated:
    zones = [row.name for row in pool.cluster.failure_domains.all() if row.kind == "zone"]
    return PoolStated(
        pool_id=str(pool.pk),
        group=spot_group(pool.instance_type.name, zones=zones, cluster=pool.cluster.name),
        hazard_per_h=pool.hazard_per_h,
        obtainability=pool.obtainability,
    )


def _tell(organization_id: UUID, moved: list[GpuPool]) -> None:
    events_record(
        events=[
            EventFacts(
                organization_id=organization_id,
                cluster_id=pool.cluster_id,
                reason="HazardLearned",
                message=f"pool {pool.cluster.name}/{pool.name}: placement reckons with a hazard of"
                f" {pool.hazard_believed_per_h:.3g} per hour (stated: {pool.hazard_per_h:.3g}) and an obtainability"
                f" of {pool.obtainability_believed:.3g} (stated: {pool.obtainability:.3g})",
            )
            for pool in moved
        ]
    )
