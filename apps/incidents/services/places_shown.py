"""Places as somebody may read them: with the incident that tells of each, and names of own deployments alone."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from apps.accounts.selectors import organization_wanted
from apps.api.actors import Actor
from apps.deployments import selectors as deployments
from apps.incidents import selectors
from apps.incidents.services.places_find import places_find
from controlplane.failover import Finding, Word


@dataclass(frozen=True, slots=True)
class PlaceShown:
    """A finding, in the words of the API. ``name`` of a replica's place: ``cluster/pool/deployment``."""

    kind: str
    name: str
    within: str | None
    state: str
    health: str
    cause: str | None
    lost_to: int
    observers: int
    evidence: str
    incident_id: UUID | None
    says: tuple[Word, ...]


def places_shown(*, actor: Actor, now: datetime, kind: str | None = None) -> list[PlaceShown]:
    """All places, the largest kinds first. What replicas do is told of the actor's own deployments only."""
    organization_id = organization_wanted(actor)
    found = places_find(organization_id=organization_id, now=now).findings
    wanted = [row for row in found if kind is None or row.place.kind == kind]
    incidents = selectors.incident_ids_open(organization_id=organization_id)
    ids = {UUID(row.place.name.rpartition("/")[2]) for row in wanted if row.place.kind == "replica"}
    names = deployments.deployment_names(deployment_ids=ids)
    own_project = selectors.own_project(actor)
    projects = deployments.project_ids(deployment_ids=ids) if own_project is not None else {}
    shown = []
    for row in sorted(wanted, key=_order):
        place = row.place
        name = place.name
        if place.kind == "replica":
            pool, _, text = name.rpartition("/")
            deployment_id = UUID(text)
            if own_project is not None and projects.get(deployment_id) != own_project:
                continue
            name = f"{pool}/{names.get(deployment_id, text)}"
        shown.append(_shown(row, name, incidents.get((place.kind, place.name))))
    return shown


_KINDS = ("control_plane", "provider", "region", "cluster", "pool", "replica")


def _order(row: Finding) -> tuple[int, str]:
    return _KINDS.index(row.place.kind), row.place.name


def _shown(row: Finding, name: str, incident_id: UUID | None) -> PlaceShown:
    return PlaceShown(
        kind=row.place.kind,
        name=name,
        within=str(row.within) if row.within is not None else None,
        state=row.state,
        health=row.health,
        cause=row.cause,
        lost_to=row.lost_to,
        observers=row.observers,
        evidence=row.evidence,
        incident_id=incident_id,
        says=row.words,
    )
