"""Reading organizations, projects, members and API keys: always within what an actor may see."""

import hashlib
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db.models import Q, QuerySet

from apps.accounts.models import ApiKey, Membership, Organization, Project, Scope, User
from apps.api.actors import RIGHTS, ROLE_RIGHTS, Actor, Right
from apps.api.problems import Problem, not_found, parameter_problem

_RIGHT_SCOPES: Final[tuple[Right, ...]] = ("operate", "deploy", "read")


def project_wanted(actor: Actor) -> UUID:
    """The project acted for. Raises Problem ``project_wanted``."""
    if actor.project_id is None:
        raise Problem(
            "project_wanted", "several projects can be reached; say which with ?project=<name or id>"
        )
    return actor.project_id


def organization_wanted(actor: Actor) -> UUID:
    """The organization acted for. Raises Problem ``project_wanted``."""
    if actor.organization_id is None:
        raise Problem(
            "project_wanted",
            "several organizations can be reached; say which with ?project= or ?organization=",
        )
    return actor.organization_id


def api_keys_for_inference(*, organization_id: UUID, now: datetime) -> QuerySet[ApiKey]:
    """Keys of all projects of an organization that its gateways accept at ``now``."""
    return ApiKey.objects.filter(
        Q(expires_at=None) | Q(expires_at__gt=now),
        project__organization_id=organization_id,
        revoked_at=None,
        scopes__contains=[Scope.INFERENCE],
    ).select_related("project")


def project_ids(*, organization_id: UUID) -> set[UUID]:
    """The projects of an organization, for the control plane itself."""
    return set(Project.objects.filter(organization_id=organization_id).values_list("pk", flat=True))


def secret_sha256(secret: str) -> bytes:
    """How a key or token is stored: it has 256 random bits, so a plain hash cannot be searched."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def api_key_by_secret(secret: str) -> ApiKey | None:
    """The key whose secret this is, revoked or expired ones included; the caller judges."""
    return ApiKey.objects.select_related("project__organization").filter(sha256=secret_sha256(secret)).first()


def actor_of_api_key(api_key: ApiKey) -> Actor:
    """What a key may do. ``api_key.project`` must be loaded."""
    right = next((scope for scope in _RIGHT_SCOPES if scope in api_key.scopes), None)
    return Actor(
        kind="api_key",
        id=str(api_key.pk),
        name=f"{api_key.name} ({api_key.prefix})",
        right=right,
        organization_id=api_key.project.organization_id,
        project_id=api_key.project_id,
        user_id=api_key.created_by_id,
    )


def actor_of_user(user: User, *, project: str | None = None, organization: str | None = None) -> Actor:
    """What a person may do for one project or organization, named by name or id.

    With neither given, the only project and the only organization that the person can reach are taken; with several,
    the actor has none (None), and views that need one say so.
    Raises Problem ``not_found`` for what the person may not see, ``invalid_parameter`` for an ambiguous name.
    """
    rights: dict[UUID, Right] = {
        membership.organization_id: ROLE_RIGHTS[membership.role]
        for membership in Membership.objects.filter(user=user)
    }
    organization_id, project_id = _tenant(user, rights, project=project, organization=organization)
    right: Right | None = "admin" if user.is_superuser else None
    if right is None and organization_id is not None:
        right = rights.get(organization_id)
    elif right is None and rights:
        right = min(rights.values(), key=RIGHTS.index)
    return Actor(
        kind="user",
        id=str(user.pk),
        name=user.get_username(),
        right=right,
        organization_id=organization_id,
        project_id=project_id,
        user_id=user.pk,
    )


def _tenant(
    user: User, rights: dict[UUID, Right], *, project: str | None, organization: str | None
) -> tuple[UUID | None, UUID | None]:
    projects = Project.objects.all() if user.is_superuser else Project.objects.filter(organization__in=rights)
    if project is not None:
        found = list(projects.filter(_named(project))[:2])
        if len(found) > 1:
            raise parameter_problem("project", "names several projects", value=project, remedy="give its id")
        if not found:
            raise not_found("project", project)
        return found[0].organization_id, found[0].pk
    organizations = (
        Organization.objects.all() if user.is_superuser else Organization.objects.filter(pk__in=rights)
    )
    if organization is not None:
        chosen = organizations.filter(_named(organization)).first()
        if chosen is None:
            raise not_found("organization", organization)
        return chosen.pk, None
    only_projects = list(projects[:2])
    if len(only_projects) == 1:
        return only_projects[0].organization_id, only_projects[0].pk
    only_organizations = list(organizations[:2])
    return (only_organizations[0].pk if len(only_organizations) == 1 else None), None


def _named(name_or_id: str) -> Q:
    try:
        return Q(pk=UUID(name_or_id))
    except ValueError:
        return Q(name=name_or_id)


def organizations(*, actor: Actor) -> QuerySet[Organization]:
    """Those that the actor may see."""
    if actor.is_installation_admin and actor.kind != "api_key":
        return Organization.objects.all()
    if actor.kind == "user" and actor.user_id is not None:
        return Organization.objects.filter(memberships__user_id=actor.user_id)
    return Organization.objects.filter(pk=organization_wanted(actor))


def organization_get(*, actor: Actor, name: str) -> Organization:
    """Raises Problem ``not_found``."""
    found = organizations(actor=actor).filter(_named(name)).first()
    if found is None:
        raise not_found("organization", name)
    return found


def projects(*, actor: Actor) -> QuerySet[Project]:
    """A key sees its own project; a person sees those of the organizations they belong to."""
    if actor.kind == "api_key":
        return Project.objects.filter(pk=project_wanted(actor)).select_related("organization")
    return Project.objects.filter(organization__in=organizations(actor=actor)).select_related("organization")


def project_get(*, actor: Actor, name: str) -> Project:
    """By name in the actor's organization, or by id. Raises Problem ``not_found``."""
    within = projects(actor=actor)
    if actor.organization_id is not None:
        within = within.filter(organization_id=actor.organization_id)
    found = within.filter(_named(name)).first()
    if found is None:
        raise not_found("project", name)
    return found


def memberships(*, actor: Actor) -> QuerySet[Membership]:
    """Members of the actor's organization."""
    return Membership.objects.filter(organization_id=organization_wanted(actor)).select_related("user")


def membership_get(*, actor: Actor, username: str) -> Membership:
    """Raises Problem ``not_found``."""
    found = memberships(actor=actor).filter(user__username=username).first()
    if found is None:
        raise not_found("member", username)
    return found


def api_keys(*, actor: Actor, revoked: bool | None = None) -> QuerySet[ApiKey]:
    """Keys of the actor's project; ``revoked`` filters."""
    keys = ApiKey.objects.filter(project_id=project_wanted(actor)).select_related("created_by")
    return keys if revoked is None else keys.filter(revoked_at__isnull=not revoked)


def api_key_get(*, actor: Actor, name: str) -> ApiKey:
    """By id, or by the name of a key that is not revoked. Raises Problem ``not_found``."""
    keys = api_keys(actor=actor)
    try:
        found = keys.filter(pk=UUID(name)).first()
    except ValueError:
        found = keys.filter(name=name, revoked_at=None).first()
    if found is None:
        raise not_found("API key", name)
    return found


def user_by_name(username: str) -> User | None:
    return User.objects.filter(username=username).first()


def organization_ids() -> list[UUID]:
    """All organizations, in one order, for the control plane itself."""
    return list(Organization.objects.order_by("pk").values_list("pk", flat=True))


def budgets(*, organization_id: UUID) -> dict[UUID, int]:
    """Project id -> micro-dollars per hour, of an organization's projects that have a budget."""
    found = Project.objects.filter(organization_id=organization_id, budget_micro_usd_per_h__isnull=False)
    rows = found.values_list("pk", "budget_micro_usd_per_h")
    return {project_id: budget for project_id, budget in rows if budget is not None}
