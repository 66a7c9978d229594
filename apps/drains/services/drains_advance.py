"""What time and the fleet have made of drains: windows begin and end, places become empty."""

import logging
from dataclasses import replace
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db import transaction

from apps.api.problems import Problem
from apps.drains import selectors
from apps.drains.models import Drain
from apps.drains.services.drain_enter import drain_enter
from apps.drains.services.drain_preview import Preview, drain_preview
from apps.placements.services.advisory_lock import advisory_lock
from controlplane.failover import DrainEvent, DrainFacts, next_event

logger = logging.getLogger(__name__)

#: The first half of the advisory lock's key; the second is the organization. 7301 to 7303 are others'.
_DRAINS_LOCK: Final = 7305


def drains_advance(*, now: datetime) -> int:
    """Take every step that is due; how many those were. May run twice, late or beside itself.

    A drain that fails is logged, stays as it is, and keeps no other waiting.
    """
    steps = 0
    for organization_id in selectors.organization_ids_draining():
        with advisory_lock(_DRAINS_LOCK, organization_id) as held:
            if held:
                steps += sum(
                    _guarded(row, now) for row in selectors.drains_open(organization_id=organization_id)
                )
    return steps


def _guarded(drain: Drain, now: datetime) -> bool:
    try:
        return _advance(drain, now)
    except Exception:
        logger.exception("drain %s could not be carried on", drain.pk)
        return False


def _advance(drain: Drain, now: datetime) -> bool:
    facts = DrainFacts(
        state=drain.state,  # type: ignore[arg-type]
        starts_at=drain.starts_at,
        ends_at=drain.ends_at,
        expected_s=drain.expected_s,
        present=selectors.progress(drain=drain, now=now).present,
    )
    event = next_event(facts, now=now)
    preview = None
    if event == "due":
        if _is_held(drain):
            return False  # somebody drains it already: its turn comes when that one is lifted
        preview = _preview(drain, now)
        short = preview is not None and bool(preview.check.shortfalls) and not drain.accept_risk
        event = next_event(replace(facts, short=short), now=now)
    return event is not None and _enter(drain.pk, drain.state, event, preview, now)


def _is_held(drain: Drain) -> bool:
    held = selectors.drain_held(organization_id=drain.organization_id, kind=drain.kind, name=drain.name)
    return held is not None


def _preview(drain: Drain, now: datetime) -> Preview | None:
    """None where nothing of that name is there any more: then nothing can be short."""
    try:
        return drain_preview(organization_id=drain.organization_id, kind=drain.kind, name=drain.name, now=now)
    except Problem:
        return None


@transaction.atomic
def _enter(drain_id: UUID, state: str, event: DrainEvent, preview: Preview | None, now: datetime) -> bool:
    locked = Drain.objects.select_for_update().filter(pk=drain_id, state=state).first()
    if locked is None:  # an operator was quicker
        return False
    if preview is not None:
        locked.shortfalls, locked.expected_s = preview.shortfalls(), preview.expected_s
    drain_enter(drain=locked, event=event, now=now)
    return True
