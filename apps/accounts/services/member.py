"""Who belongs to an organization, and as what. An organization always keeps an owner."""

from uuid import UUID

from apps.accounts.models import Membership, Organization, Role, User
from apps.api.actors import Actor
from apps.api.problems import Problem, field_problem
from apps.api.services import audit_record, one_transaction


@one_transaction
def member_add(*, actor: Actor, organization_id: UUID, username: str, role: str) -> Membership:
    """Raises Problem ``invalid_document`` for an unknown person, ``already_exists`` for a member."""
    user = User.objects.filter(username=username).first()
    if user is None:
        raise field_problem(
            "/username",
            "is nobody's",
            value=username[:80],
            remedy="have an administrator create the account first",
        )
    membership = Membership.objects.create(organization_id=organization_id, user=user, role=role)
    membership.refresh_from_db()
    audit_record(
        actor=actor, action="added", subject=user, after={"role": role}, organization_id=organization_id
    )
    return membership


@one_transaction
def member_change(*, actor: Actor, membership: Membership, role: str) -> Membership:
    """Give a member another role. Raises Problem ``conflict`` if nobody would own the organization."""
    before = membership.role
    if role != Role.OWNER:
        _keep_an_owner(membership)
    membership.role = role
    membership.save(update_fields=["role"])
    audit_record(
        actor=actor,
        action="changed",
        subject=membership.user,
        before={"role": before},
        after={"role": role},
        organization_id=membership.organization_id,
    )
    return membership


@one_transaction
def member_remove(*, actor: Actor, membership: Membership) -> None:
    """Raises Problem ``conflict`` if nobody would own the organization."""
    _keep_an_owner(membership)
    audit_record(
        actor=actor,
        action="removed",
        subject=membership.user,
        before={"role": membership.role},
        organization_id=membership.organization_id,
    )
    membership.delete()


def _keep_an_owner(membership: Membership) -> None:
    """The organization's row is the lock: two owners who leave at once cannot both be the last but one."""
    Organization.objects.select_for_update().get(pk=membership.organization_id)
    others = Membership.objects.filter(organization_id=membership.organization_id, role=Role.OWNER)
    if membership.role == Role.OWNER and not others.exclude(pk=membership.pk).exists():
        raise Problem("conflict", "nobody would own the organization; make another member an owner first")
