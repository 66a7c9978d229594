"""Forgetting shared facts that nothing refers to."""

from apps.api.actors import Actor
from apps.api.services import audit_record, one_transaction
from apps.fleet.models import FailureDomain, FailureDomainKind, GpuType, InstanceType, Provider, Region


@one_transaction
def fact_delete(*, actor: Actor, fact: Provider | Region | FailureDomain | GpuType | InstanceType) -> None:
    """Raises Problem ``in_use`` if something refers to it."""
    audit_record(actor=actor, action="deleted", subject=fact, before={"name": fact.name})
    if isinstance(fact, Region):
        FailureDomain.objects.filter(kind=FailureDomainKind.REGION, name=fact.name).delete()
    elif isinstance(fact, Provider):
        FailureDomain.objects.filter(kind=FailureDomainKind.PROVIDER, name=fact.name).delete()
    fact.delete()
