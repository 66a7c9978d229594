"""Facts that all organizations share: providers, regions, failure domains, GPU and instance types."""

from collections.abc import Sequence

from apps.api.actors import Actor
from apps.api.problems import field_problem
from apps.api.services import audit_record, one_transaction
from apps.fleet.models import (
    FailureDomain,
    FailureDomainKind,
    GpuType,
    InstanceType,
    Provider,
    Region,
)


@one_transaction
def provider_create(*, actor: Actor, name: str, kind: str) -> Provider:
    """A provider, and the failure domain that it is. Raises Problem ``name_taken``."""
    provider = Provider.objects.create(name=name, kind=kind)
    provider.refresh_from_db()
    FailureDomain.objects.get_or_create(kind=FailureDomainKind.PROVIDER, name=name)
    audit_record(actor=actor, action="created", subject=provider, after={"name": name, "kind": kind})
    return provider


@one_transaction
def region_create(
    *, actor: Actor, name: str, provider: str, jurisdiction: str, latitude: float, longitude: float
) -> Region:
    """A region, and the failure domain that it is. Raises Problem ``invalid_document``, ``name_taken``."""
    owner = Provider.objects.filter(name=provider).first()
    if owner is None:
        known = ", ".join(Provider.objects.order_by("name").values_list("name", flat=True)[:50])
        raise field_problem(
            "/provider", "is not known", value=provider[:80], remedy=f"known are: {known or 'none'}"
        )
    region = Region.objects.create(
        name=name, provider=owner, jurisdiction=jurisdiction, latitude=latitude, longitude=longitude
    )
    region.refresh_from_db()
    FailureDomain.objects.get_or_create(kind=FailureDomainKind.REGION, name=name)
    after = {"name": name, "provider": provider, "jurisdiction": jurisdiction}
    audit_record(actor=actor, action="created", subject=region, after=after)
    return region


@one_transaction
def failure_domain_create(*, actor: Actor, kind: str, name: str) -> FailureDomain:
    """Something that fails as one. Raises Problem ``name_taken``."""
    domain = FailureDomain.objects.create(kind=kind, name=name)
    domain.refresh_from_db()
    audit_record(actor=actor, action="created", subject=domain, after={"kind": kind, "name": name})
    return domain


@one_transaction
def gpu_type_create(
    *, actor: Actor, name: str, vendor: str, memory_gib: int, precisions: Sequence[str]
) -> GpuType:
    """A kind of GPU. Raises Problem ``name_taken``."""
    gpu_type = GpuType.objects.create(
        name=name, vendor=vendor, memory_gib=memory_gib, precisions=list(precisions)
    )
    gpu_type.refresh_from_db()
    after = {"name": name, "vendor": vendor, "memory_gib": memory_gib, "precisions": list(precisions)}
    audit_record(actor=actor, action="created", subject=gpu_type, after=after)
    return gpu_type


@one_transaction
def instance_type_create(*, actor: Actor, name: str, provider: str, gpu_type: str, gpus: int) -> InstanceType:
    """A machine as a provider rents it out. Raises Problem ``invalid_document``, ``name_taken``."""
    owner = Provider.objects.filter(name=provider).first()
    if owner is None:
        raise field_problem(
            "/provider", "is not known", value=provider[:80], remedy="create the provider first"
        )
    kind = GpuType.objects.filter(name=gpu_type).first()
    if kind is None:
        raise field_problem(
            "/gpu_type", "is not known", value=gpu_type[:80], remedy="create the GPU type first"
        )
    instance_type = InstanceType.objects.create(provider=owner, name=name, gpu_type=kind, gpus=gpus)
    instance_type.refresh_from_db()
    after = {"name": name, "provider": provider, "gpu_type": gpu_type, "gpus": gpus}
    audit_record(actor=actor, action="created", subject=instance_type, after=after)
    return instance_type
