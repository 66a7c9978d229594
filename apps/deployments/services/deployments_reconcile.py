"""What a lost task or sync left: hand-overs, deletions and conditions that wait for a look."""

from apps.deployments import selectors
from apps.deployments.services.deployment_observe import deployment_observe
from apps.placements import selectors as placements

_BATCH = 100


def deployments_reconcile() -> int:
    """Look again at every deployment that something is under way for; how many those were."""
    waiting = sorted(
        placements.deployment_ids_unsettled()
        | selectors.deployment_ids_deleting()
        | selectors.deployment_ids_progressing()
    )
    for start in range(0, len(waiting), _BATCH):
        deployment_observe(deployment_ids=waiting[start : start + _BATCH])
    return len(waiting)
