"""Writing deployments, their revisions and conditions."""

from apps.deployments.services.conditions_set import conditions_set
from apps.deployments.services.deployment_change import (
    deployment_patch,
    deployment_redeploy,
    deployment_replace,
    deployment_rollback,
)
from apps.deployments.services.deployment_create import deployment_create
from apps.deployments.services.deployment_delete import deployment_delete
from apps.deployments.services.deployment_observe import deployment_observe
from apps.deployments.services.deployment_preview import DryRun, deployment_preview
from apps.deployments.services.deployments_reconcile import deployments_reconcile
from apps.deployments.services.placed_set import Placed, placed_set

__all__ = [
    "DryRun",
    "Placed",
    "conditions_set",
    "deployment_create",
    "deployment_delete",
    "deployment_observe",
    "deployment_patch",
    "deployment_preview",
    "deployment_redeploy",
    "deployment_replace",
    "deployment_rollback",
    "deployments_reconcile",
    "placed_set",
]
