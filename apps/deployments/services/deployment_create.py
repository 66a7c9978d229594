"""A deployment comes into being."""

from typing import Any

from apps.accounts.selectors import project_wanted
from apps.api.actors import Actor
from apps.api.services import audit_record, one_transaction
from apps.deployments import selectors
from apps.deployments.documents import document_of, document_read, policy_write
from apps.deployments.judgement import accepted
from apps.deployments.models import AutoscalingPolicy, Deployment, Revision
from apps.deployments.services.conditions_set import conditions_set
from apps.deployments.services.deployment_observe import deployment_observe
from apps.deployments.services.deployment_resolve import deployment_resolve


@one_transaction
def deployment_create(*, actor: Actor, document: Any) -> Deployment:
    """Accept a document: a deployment, its first revision, and the wish to have it placed, in one transaction.

    Raises Problem ``invalid_document``, ``name_taken``, ``project_wanted``.
    """
    from apps.placements.services import placement_request

    wanted = document_read(document)
    project_id = project_wanted(actor)
    resolved = deployment_resolve(document=wanted, project_id=project_id)
    deployment = Deployment(project_id=project_id, name=wanted.name, created_by_id=actor.user_id)
    policy = AutoscalingPolicy(deployment=deployment)
    policy_write(wanted, deployment, policy)
    deployment.save(force_insert=True)
    policy.save(force_insert=True)
    deployment.current_revision = Revision.objects.create(
        deployment=deployment,
        number=1,
        model_version=resolved.model_version,
        engine_image=resolved.engine_image,
        adapters=list(resolved.adapters),
        created_by_id=actor.user_id,
    )
    deployment.save(update_fields=["current_revision"])
    created = selectors.deployments_locked(ids=[deployment.pk])[0]
    audit_record(actor=actor, action="created", subject=created, after=document_of(created).as_json())
    conditions_set(verdicts=[(created, accepted(created.generation))])
    deployment_observe(deployment_ids=[created.pk])
    placement_request(organization_id=created.project.organization_id)
    return selectors.deployment_get(actor=actor, name=created.name)
