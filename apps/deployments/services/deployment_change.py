"""Changing a deployment: what runs (a new revision) or how (other policy). Either raises its generation."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.utils import timezone

from apps.api.actors import Actor
from apps.api.etags import etag_of_generation, precondition_check
from apps.api.problems import Problem, field_problem, not_found
from apps.api.services import audit_record, one_transaction
from apps.catalog import selectors as catalog
from apps.deployments import selectors
from apps.deployments.documents import (
    DeploymentDocument,
    document_merge,
    document_of,
    document_read,
    policy_write,
)
from apps.deployments.judgement import accepted
from apps.deployments.models import Deployment, Revision
from apps.deployments.services.conditions_set import conditions_set
from apps.deployments.services.deployment_observe import deployment_observe
from apps.deployments.services.deployment_resolve import Resolved, deployment_resolve
from apps.placements import selectors as placements


@one_transaction
def deployment_replace(
    *, actor: Actor, deployment: Deployment, document: Any, if_match: str | None = None
) -> Deployment:
    """Replace the whole document; what is left out gets its default.

    Raises Problem ``invalid_document``, ``stale_etag``, ``conflict``, ``not_found``.
    """
    locked = deployment_lock(deployment, if_match)
    return _adopt(actor, locked, document_read(document), action="replaced")


@one_transaction
def deployment_patch(
    *, actor: Actor, deployment: Deployment, changes: Any, if_match: str | None = None
) -> Deployment:
    """Change what is given (a JSON merge patch). Raises as ``deployment_replace``."""
    locked = deployment_lock(deployment, if_match)
    return _adopt(actor, locked, document_merge(document_of(locked), changes), action="changed")


@one_transaction
def deployment_rollback(
    *, actor: Actor, deployment: Deployment, revision: int, if_match: str | None = None
) -> Deployment:
    """Run again what an earlier revision ran, as a new revision; the policy stays.

    Raises Problem ``invalid_document`` for a revision that does not exist, ``conflict`` for the one that runs already.
    """
    locked = deployment_lock(deployment, if_match)
    earlier = selectors.revision_get(deployment=locked, number=revision)
    if earlier is None:
        last = locked.current_revision.number if locked.current_revision else 0
        raise field_problem(
            "/revision", "does not exist", value=revision, remedy=f"use a number from 1 to {last}"
        )
    if earlier.pk == locked.current_revision_id:
        raise Problem("conflict", f"revision {revision} is what runs; choose an earlier one")
    before = document_of(locked)
    _revision_add(actor, locked, Resolved.of(earlier), rolled_back_from=earlier)
    return _stored(actor, locked, before, action="rolled_back")


@one_transaction
def deployment_redeploy(*, actor: Actor, deployment: Deployment, if_match: str | None = None) -> Deployment:
    """Run the same model version on the newest image of its engine, as a new revision.

    Raises Problem ``conflict`` if that is what runs.
    """
    locked = deployment_lock(deployment, if_match)
    current = locked.current_revision
    assert current is not None  # noqa: S101  (a deployment is created with its first revision)
    newest = catalog.engine_image_resolve(engine=current.engine_image.engine)
    if newest.pk == current.engine_image_id:
        raise Problem("conflict", f"the newest image, {newest}, is what runs; add a newer one first")
    before = document_of(locked)
    _revision_add(actor, locked, replace(Resolved.of(current), engine_image=newest))
    return _stored(actor, locked, before, action="redeployed")


def deployment_lock(deployment: Deployment, if_match: str | None) -> Deployment:
    """The row locked, as it is now.

    Raises Problem ``not_found``, ``stale_etag``, ``conflict`` if it is being deleted.
    """
    locked = next(iter(selectors.deployments_locked(ids=[deployment.pk])), None)
    if locked is None:
        raise not_found("deployment", deployment.name)
    precondition_check(if_match, etag_of_generation(locked.generation))
    if locked.deletion_requested_at is not None:
        raise Problem("conflict", f"{locked.name} is being deleted; create it again when it is gone")
    return locked


def _adopt(actor: Actor, locked: Deployment, wanted: DeploymentDocument, *, action: str) -> Deployment:
    if wanted.name != locked.name:
        remedy = "leave it as it is, or create another deployment"
        raise field_problem("/name", "cannot be changed", value=wanted.name, remedy=remedy)
    before = document_of(locked)
    current = locked.current_revision
    resolved = deployment_resolve(document=wanted, project_id=locked.project_id, current=current)
    policy_write(wanted, locked, locked.autoscaling)
    runs_the_same = current is not None and resolved == Resolved.of(current)
    if runs_the_same and document_of(locked) == before:
        return selectors.deployment_get(actor=actor, name=locked.name)
    if not runs_the_same:
        _revision_add(actor, locked, resolved)
    return _stored(actor, locked, before, action=action)


def _revision_add(
    actor: Actor, locked: Deployment, runs: Resolved, rolled_back_from: Revision | None = None
) -> None:
    newest = selectors.revisions(deployment=locked).order_by("-number").first()
    locked.current_revision = Revision.objects.create(
        deployment=locked,
        number=newest.number + 1 if newest else 1,
        model_version=runs.model_version,
        engine_image=runs.engine_image,
        adapters=list(runs.adapters),
        rolled_back_from=rolled_back_from,
        created_by_id=actor.user_id,
    )


def _stored(actor: Actor, locked: Deployment, before: DeploymentDocument, *, action: str) -> Deployment:
    from apps.agents.services.tables_compile import deployments_tables_compile
    from apps.placements.services import placement_request

    locked.generation += 1
    locked.updated_at = timezone.now()
    locked.save()
    locked.autoscaling.save()
    audit_record(
        actor=actor,
        action=action,
        subject=locked,
        before=_audited(before, locked.generation - 1),
        after=_audited(document_of(locked), locked.generation),
    )
    conditions_set(verdicts=[(locked, accepted(locked.generation))])
    deployment_observe(deployment_ids=[locked.pk])
    organization_id = locked.project.organization_id
    placement_request(organization_id=organization_id)
    if placements.assignments_of_deployments(deployment_ids=[locked.pk]).exists():
        # agents scale by the new policy, gateways route by it: it must be heard at once
        deployments_tables_compile(organization_id=organization_id, deployment_ids=[locked.pk])
    return selectors.deployment_get(actor=actor, name=locked.name)


def _audited(document: DeploymentDocument, generation: int) -> Mapping[str, Any]:
    return {**document.as_json(), "generation": generation}
