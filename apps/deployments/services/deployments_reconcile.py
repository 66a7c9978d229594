"""What a lost task or sync left: hand-overs, deletions and conditions that wait for a look."""

import logging
from collections.abc import Iterable
from uuid import UUID

from apps.deployments import selectors
from apps.deployments.services.deployment_observe import deployment_observe
from apps.placements import selectors as placements

logger = logging.getLogger(__name__)

_BATCH = 100


def deployments_reconcile() -> int:
    """Look again at every deployment that something is under way for; how many those were.

    Where a look fails at many together, each is looked at alone: one that cannot be judged is logged, and keeps no
    other waiting.
    """
    waiting = sorted(
        placements.deployment_ids_unsettled()
        | selectors.deployment_ids_deleting()
        | selectors.deployment_ids_progressing()
    )
    for start in range(0, len(waiting), _BATCH):
        batch = waiting[start : start + _BATCH]
        try:
            deployment_observe(deployment_ids=batch)
        except Exception:
            logger.exception("%d deployments could not be looked at together", len(batch))
            _each_alone(batch)
    return len(waiting)


def _each_alone(deployment_ids: Iterable[UUID]) -> None:
    for deployment_id in deployment_ids:
        try:
            deployment_observe(deployment_ids=[deployment_id])
        except Exception:
            logger.exception("deployment %s could not be looked at", deployment_id)
