"""Providers, regions, clusters, GPU pools, reservations and prices.

Providers, regions, failure domains, GPU and instance types are facts that all organizations share; clusters and
pools belong to one organization. Money is integer micro-dollars (1 USD = 1,000,000).
"""

import uuid
from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from apps.accounts.models import NAME_PATTERN, Organization


class ProviderKind(models.TextChoices):
    AWS = "aws"
    GCP = "gcp"
    AZURE = "azure"
    ONPREM = "onprem"


class Provider(models.Model):
    """Whoever rents out the GPUs."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=63, unique=True)
    kind = models.CharField(max_length=16, choices=ProviderKind.choices)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(name__regex=NAME_PATTERN), name="provider_name_is_a_label"),
            models.CheckConstraint(condition=Q(kind__in=ProviderKind.values), name="provider_kind_known"),
        ]

    def __str__(self) -> str:
        return self.name


class Region(models.Model):
    """A provider's region and the jurisdiction whose law binds what is served there (``eu``, ``us``, ``jp`` ...)."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="regions")
    name = models.CharField(max_length=63, unique=True)
    jurisdiction = models.CharField(max_length=16, db_index=True)
    latitude = models.FloatField(validators=[MinValueValidator(-90), MaxValueValidator(90)])
    longitude = models.FloatField(validators=[MinValueValidator(-180), MaxValueValidator(180)])
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(name__regex=NAME_PATTERN), name="region_name_is_a_label"),
            models.CheckConstraint(
                condition=Q(jurisdiction__regex=r"^[a-z]{2,16}$"), name="region_jurisdiction_form"
            ),
            models.CheckConstraint(
                condition=Q(latitude__gte=-90, latitude__lte=90, longitude__gte=-180, longitude__lte=180),
                name="region_on_the_globe",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class FailureDomainKind(models.TextChoices):
    ZONE = "zone"
    REGION = "region"
    PROVIDER = "provider"


class FailureDomain(models.Model):
    """What fails together."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=16, choices=FailureDomainKind.choices)
    name = models.CharField(max_length=127)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["kind", "name"], name="failure_domain_unique"),
            models.CheckConstraint(
                condition=Q(kind__in=FailureDomainKind.values), name="failure_domain_kind_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


class Cluster(models.Model):
    """One workload plane. ``generation`` rises with every change that placement must see.

    retired_at: since when its agent is refused, for good: it is not coming back
    ended_at:   since when nothing of it is counted on, its lease being over
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="clusters")
    region = models.ForeignKey(Region, on_delete=models.PROTECT, related_name="clusters")
    name = models.CharField(max_length=63)
    failure_domains = models.ManyToManyField(FailureDomain, related_name="clusters")
    gateway_url = models.CharField(max_length=255, blank=True, default="")
    schedulable = models.BooleanField(default=True)
    retired_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    generation = models.BigIntegerField(default=1)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(retired_at=None) | Q(schedulable=False), name="cluster_retired_is_unschedulable"
            ),
            models.CheckConstraint(
                condition=Q(ended_at=None) | Q(retired_at__isnull=False), name="cluster_ended_only_if_retired"
            ),
            models.UniqueConstraint(
                fields=["organization", "name"], name="cluster_name_unique_in_organization"
            ),
            models.CheckConstraint(condition=Q(name__regex=NAME_PATTERN), name="cluster_name_is_a_label"),
        ]
        indexes: ClassVar = [models.Index(fields=["organization", "created_at", "id"])]

    def __str__(self) -> str:
        return self.name


class GpuType(models.Model):
    """A kind of accelerator."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=63, unique=True)
    vendor = models.CharField(max_length=32)
    memory_gib = models.PositiveIntegerField()
    precisions = ArrayField(models.CharField(max_length=16))
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(memory_gib__gt=0), name="gpu_type_has_memory"),
        ]

    def __str__(self) -> str:
        return self.name


class InstanceType(models.Model):
    """A machine as it is rented: so many GPUs of one type."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="instance_types")
    name = models.CharField(max_length=63)
    gpu_type = models.ForeignKey(GpuType, on_delete=models.PROTECT, related_name="instance_types")
    gpus = models.PositiveIntegerField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["provider", "name"], name="instance_type_unique_at_provider"),
            models.CheckConstraint(condition=Q(gpus__gt=0), name="instance_type_has_gpus"),
        ]

    def __str__(self) -> str:
        return self.name


class Procurement(models.TextChoices):
    RESERVED = "reserved"
    ON_DEMAND = "on_demand"
    SPOT = "spot"


class GpuPool(models.Model):
    """A cluster's machines of one type, procured one way. ``generation`` rises with every change of the row.

    hazard_learned_per_h, obtainability_learned: what recorded losses and launches teach, with what is stated as the
    prior (``controlplane.procurement.learning``); None: nothing was seen
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    cluster = models.ForeignKey(Cluster, on_delete=models.PROTECT, related_name="pools")
    instance_type = models.ForeignKey(InstanceType, on_delete=models.PROTECT, related_name="pools")
    procurement = models.CharField(max_length=16, choices=Procurement.choices)
    name = models.CharField(max_length=63)
    capacity_instances = models.PositiveIntegerField()
    hazard_per_h = models.FloatField(default=0.0, help_text="expected losses of an instance per hour")
    obtainability = models.FloatField(
        default=1.0, db_default=1.0, help_text="of the instances that were asked for, the share that was had"
    )
    hazard_learned_per_h = models.FloatField(null=True, blank=True)
    obtainability_learned = models.FloatField(null=True, blank=True)
    schedulable = models.BooleanField(default=True)
    generation = models.BigIntegerField(default=1)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["cluster", "instance_type", "procurement"],
                name="pool_once_per_cluster_type_procurement",
            ),
            models.UniqueConstraint(fields=["cluster", "name"], name="pool_name_unique_in_cluster"),
            models.CheckConstraint(condition=Q(name__regex=NAME_PATTERN), name="pool_name_is_a_label"),
            models.CheckConstraint(
                condition=Q(procurement__in=Procurement.values), name="pool_procurement_known"
            ),
            models.CheckConstraint(condition=Q(hazard_per_h__gte=0), name="pool_hazard_not_negative"),
            models.CheckConstraint(
                condition=Q(obtainability__gt=0, obtainability__lte=1), name="pool_obtainability_is_a_share"
            ),
            models.CheckConstraint(
                condition=Q(capacity_instances__lte=100_000), name="pool_capacity_bounded"
            ),
            models.CheckConstraint(
                condition=Q(hazard_learned_per_h=None) | Q(hazard_learned_per_h__gte=0),
                name="pool_hazard_learned_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(obtainability_learned=None)
                | Q(obtainability_learned__gt=0, obtainability_learned__lte=1),
                name="pool_obtainability_learned_is_a_share",
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["cluster", "created_at", "id"])]

    def __str__(self) -> str:
        return self.name

    @property
    def hazard_believed_per_h(self) -> float:
        """What placement reckons with: learned, or as stated where nothing was."""
        return self.hazard_per_h if self.hazard_learned_per_h is None else self.hazard_learned_per_h

    @property
    def obtainability_believed(self) -> float:
        """As ``hazard_believed_per_h``."""
        return self.obtainability if self.obtainability_learned is None else self.obtainability_learned


class PoolPrice(models.Model):
    """What an instance of a pool costs from a moment on: effective-dated, never overwritten."""

    pool = models.ForeignKey(GpuPool, on_delete=models.CASCADE, related_name="prices")
    instance_micro_usd_per_h = models.BigIntegerField()
    effective_from = models.DateTimeField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["pool", "effective_from"], name="pool_price_once_per_moment"),
            models.CheckConstraint(
                condition=Q(instance_micro_usd_per_h__gte=0), name="pool_price_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.pool} from {self.effective_from}"


class Reservation(models.Model):
    """Instances that are paid for whether used or not."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    pool = models.ForeignKey(GpuPool, on_delete=models.PROTECT, related_name="reservations")
    instances = models.PositiveIntegerField()
    instance_micro_usd_per_h = models.BigIntegerField()
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(instances__gt=0), name="reservation_not_empty"),
            models.CheckConstraint(
                condition=Q(ends_at__gt=F("starts_at")), name="reservation_ends_after_start"
            ),
            models.CheckConstraint(
                condition=Q(instance_micro_usd_per_h__gte=0), name="reservation_price_not_negative"
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["pool", "created_at", "id"])]

    def __str__(self) -> str:
        return f"{self.instances} of {self.pool}"


class RegionLatency(models.Model):
    """Round-trip time between two regions; stored once per ordered pair."""

    origin = models.ForeignKey(Region, on_delete=models.CASCADE, related_name="latencies_out")
    target = models.ForeignKey(Region, on_delete=models.CASCADE, related_name="latencies_in")
    rtt_ms = models.FloatField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["origin", "target"], name="region_latency_once_per_pair"),
            models.CheckConstraint(condition=Q(rtt_ms__gte=0), name="region_latency_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.origin} to {self.target}"


class NetworkPrice(models.Model):
    """What a GiB costs that leaves the target region, where it was served, for clients in the origin region."""

    origin = models.ForeignKey(Region, on_delete=models.CASCADE, related_name="network_prices_out")
    target = models.ForeignKey(Region, on_delete=models.CASCADE, related_name="network_prices_in")
    micro_usd_per_gib = models.BigIntegerField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["origin", "target"], name="network_price_once_per_pair"),
            models.CheckConstraint(condition=Q(micro_usd_per_gib__gte=0), name="network_price_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.target} to {self.origin}"
