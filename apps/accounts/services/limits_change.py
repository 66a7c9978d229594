"""Changing what a key or a project may use."""

from typing import Any, TypeVar

from apps.accounts.models import ApiKey, Project
from apps.api.actors import Actor
from apps.api.services import audit_record, one_transaction

_Limited = TypeVar("_Limited", ApiKey, Project)


@one_transaction
def api_key_change(*, actor: Actor, api_key: ApiKey, **changes: Any) -> ApiKey:
    """Set limits and the highest priority; connected gateways hold them within seconds."""
    locked = ApiKey.objects.select_for_update(of=("self",)).select_related("project").get(pk=api_key.pk)
    return _change(actor, locked, changes, locked.project)


@one_transaction
def project_change(*, actor: Actor, project: Project, **changes: int | None) -> Project:
    """Set the limits of all keys of a project together, and its budget, which placement keeps."""
    from apps.placements.services import placement_request

    locked = Project.objects.select_for_update(of=("self",)).select_related("organization").get(pk=project.pk)
    budget = locked.budget_micro_usd_per_h
    if changes.get("budget_micro_usd_per_h", budget) != budget:
        placement_request(organization_id=locked.organization_id)
    return _change(actor, locked, changes, locked)


def _change(actor: Actor, locked: _Limited, changes: dict[str, Any], project: Project) -> _Limited:
    from apps.agents.services import keysets_compile

    before = {name: getattr(locked, name) for name in changes}
    if before == changes:
        return locked
    for name, value in changes.items():
        setattr(locked, name, value)
    locked.save(update_fields=list(changes))
    audit_record(
        actor=actor,
        action="changed",
        subject=locked,
        before=before,
        after=changes,
        organization_id=project.organization_id,
        project_id=project.pk,
    )
    keysets_compile(organization_id=project.organization_id)
    return locked
