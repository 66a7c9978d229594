"""Who acts, and what they may do. Every service and every view takes an ``Actor`` and asks nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

#: Each right includes those before it. ``own``: members and projects of an organization. ``admin``: what all
#: organizations share (providers, regions, GPU and instance types, engine images, organizations themselves).
RIGHTS: Final = ("read", "deploy", "operate", "own", "admin")
Right = Literal["read", "deploy", "operate", "own", "admin"]

#: What a role in an organization allows.
ROLE_RIGHTS: Final[Mapping[str, Right]] = {"viewer": "read", "operator": "operate", "owner": "own"}


@dataclass(frozen=True)
class Actor:
    """An API key, a person with a session, or the system itself (tasks, management commands).

    right:           the strongest right held in ``organization_id``, or None (a key for inference alone)
    organization_id: the tenant acted for; None only for installation-wide acts
    project_id:      the project acted for, where one was given
    user_id:         the person, for ``created_by``
    """

    kind: Literal["api_key", "user", "system"]
    id: str
    name: str
    right: Right | None
    organization_id: UUID | None = None
    project_id: UUID | None = None
    user_id: int | None = None

    def holds(self, right: Right) -> bool:
        """Whether this actor may do what needs ``right``."""
        return self.right is not None and RIGHTS.index(self.right) >= RIGHTS.index(right)

    @property
    def can_deploy(self) -> bool:
        return self.holds("deploy")

    @property
    def can_operate(self) -> bool:
        return self.holds("operate")

    @property
    def is_owner(self) -> bool:
        return self.holds("own")

    @property
    def is_installation_admin(self) -> bool:
        return self.holds("admin")

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


def system_actor(name: str, *, organization_id: UUID | None = None, project_id: UUID | None = None) -> Actor:
    """The control plane acting for itself: ``name`` says which part of it."""
    return Actor(
        kind="system",
        id=name,
        name=name,
        right="admin",
        organization_id=organization_id,
        project_id=project_id,
    )
