"""Adding a cluster to an organization's fleet."""

from collections.abc import Sequence
from uuid import UUID

from apps.api.actors import Actor
from apps.api.problems import field_problem
from apps.api.services import audit_record, one_transaction
from apps.fleet.models import Cluster, FailureDomain, FailureDomainKind, Region
from apps.fleet.services.announce import fleet_changed


@one_transaction
def cluster_create(
    *,
    actor: Actor,
    organization_id: UUID,
    name: str,
    region: str,
    failure_domains: Sequence[str] = (),
    schedulable: bool = True,
) -> Cluster:
    """A cluster in a known region; its agent enrols later.

    failure_domains: ``kind/name``; the region's and the provider's are added by themselves.
    Raises Problem ``invalid_document``, ``name_taken``.
    """
    place = Region.objects.select_related("provider").filter(name=region).first()
    if place is None:
        known = ", ".join(Region.objects.order_by("name").values_list("name", flat=True)[:50])
        raise field_problem(
            "/region", "is not known", value=region[:80], remedy=f"known are: {known or 'none'}"
        )
    cluster = Cluster.objects.create(
        organization_id=organization_id, region=place, name=name, schedulable=schedulable
    )
    cluster.refresh_from_db()
    cluster.failure_domains.set(domains_of(place, failure_domains))
    after = {
        "name": name,
        "region": region,
        "failure_domains": list(failure_domains),
        "schedulable": schedulable,
    }
    audit_record(actor=actor, action="created", subject=cluster, after=after, organization_id=organization_id)
    fleet_changed(organization_id=organization_id, cluster_ids=[cluster.pk])
    return cluster


def domains_of(region: Region, named: Sequence[str]) -> list[FailureDomain]:
    """The failure domains of a cluster in ``region``. Raises Problem ``invalid_document`` for an unknown one."""
    implied = {
        (FailureDomainKind.REGION.value, region.name),
        (FailureDomainKind.PROVIDER.value, region.provider.name),
    }
    wanted = {(kind, name) for kind, _, name in (text.partition("/") for text in named)}
    found = {
        (domain.kind, domain.name): domain
        for domain in FailureDomain.objects.filter(name__in={name for _, name in wanted | implied})
    }
    for index, text in enumerate(named):
        kind, _, name = text.partition("/")
        if (kind, name) not in found:
            remedy = "create it first; write it as kind/name, such as zone/euw1-az1"
            raise field_problem(f"/failure_domains/{index}", "is not known", value=text[:80], remedy=remedy)
    return [found[domain] for domain in sorted(wanted | implied)]
