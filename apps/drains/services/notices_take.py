"""Capacity that providers take back, as agents tell it: a drain of its own for each, for as long as the notice stands.

Nobody is asked whether promises break, for it happens anyway: the risk is accepted by the notice. What an operator is
draining already is left as it is. May run twice, late or beside itself.
"""

import logging
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import IntegrityError, transaction

from apps.agents import selectors as agents
from apps.drains import selectors
from apps.drains.models import Drain, DrainKind
from apps.drains.services.drain_enter import drain_order, drain_withdraw
from apps.telemetry.wire_values import moment, text_for
from workloadplane.protocol.observed import Notice

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Place:
    organization_id: UUID
    kind: str
    name: str


def notices_take(*, now: datetime) -> int:
    """Begin what a notice orders, end what none orders any more; how many those were."""
    told = {_place(each): each.notice for each in agents.notices_told()}
    open_rows = selectors.drains_by_notice()
    held = {_Place(row.organization_id, row.kind, row.name) for row in open_rows}
    steps = 0
    for place, notice in told.items():
        if place not in held:
            steps += _guarded(place, notice, now)
    for row in open_rows:
        if _Place(row.organization_id, row.kind, row.name) not in told:
            steps += drain_withdraw(row.pk, now)
    return steps


def _place(told: agents.NoticeTold) -> _Place:
    notice = told.notice
    kind = DrainKind.POOL if notice.node is None else DrainKind.NODE
    return _Place(told.organization_id, kind.value, f"{told.cluster}/{notice.node or notice.pool}")


def _guarded(place: _Place, notice: Notice, now: datetime) -> bool:
    try:
        return _begin(place, notice, now)
    except IntegrityError:
        return False  # somebody else was quicker
    except Exception:
        logger.exception("the notice of %s %s could not be taken", place.kind, place.name)
        return False


@transaction.atomic
def _begin(place: _Place, notice: Notice, now: datetime) -> bool:
    drain = Drain(
        organization_id=place.organization_id,
        kind=place.kind,
        name=place.name,
        reason=text_for(notice.reason, 255),
        state="moving",
        accept_risk=True,
        accepted_by=text_for(f"notice:{notice.provider}", 200),
        created_by=text_for(f"notice:{notice.provider}", 200),
        deadline_at=moment(notice.deadline_at),
    )
    pool_ids = selectors.pool_ids(drain=drain)
    if not pool_ids:
        return False  # a name that is none here; its agent logs it
    drain.pool_id = next(iter(pool_ids))  # a pool, or the one that a node is of
    if selectors.drain_held(organization_id=place.organization_id, kind=place.kind, name=place.name):
        return False
    drain_order(drain, now)
    return True
