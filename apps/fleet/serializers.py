"""Documents of the fleet. Prices are decimal strings of dollars for an instance and hour."""

from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from apps.api.money import MICRO
from apps.api.validation import (
    NameField,
    PatternField,
    StrictBooleanField,
    StrictCharField,
    StrictChoiceField,
    StrictDateTimeField,
    StrictFloatField,
    StrictIntegerField,
    StrictSerializer,
    StrictUuidField,
    UsdField,
)
from apps.catalog.models import Precision
from apps.fleet.models import FailureDomainKind, Procurement, ProviderKind

MAX_INSTANCES = 100_000
#: Lost on average every minute: what is above was meant per day.
MAX_HAZARD_PER_H = 60.0


class TypeNameField(PatternField):
    """A machine's or GPU's name as its maker writes it."""

    def __init__(self, **kwargs: Any) -> None:
        form = "Letters, digits and . _ - are wanted, at most 63, a letter or digit first."
        super().__init__(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", form=form, **{"max_length": 63, **kwargs}
        )


class DomainField(PatternField):
    """A failure domain as ``kind/name``."""

    def __init__(self, **kwargs: Any) -> None:
        form = "Write it as kind/name, kind being zone, region or provider."
        super().__init__(
            pattern=r"^(zone|region|provider)/[A-Za-z0-9][A-Za-z0-9._-]{0,126}$", form=form, **kwargs
        )


class ProviderCreateSerializer(StrictSerializer):
    name = NameField()
    kind = StrictChoiceField(choices=ProviderKind.choices)


class ProviderSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    kind = serializers.ChoiceField(choices=ProviderKind.choices)
    created_at = serializers.DateTimeField()


class RegionCreateSerializer(StrictSerializer):
    name = NameField()
    provider = StrictCharField(max_length=63)
    jurisdiction = PatternField(
        pattern=r"^[a-z]{2,16}$",
        form="2 to 16 lower-case letters are wanted, such as eu, us, jp.",
        max_length=16,
    )
    latitude = StrictFloatField(min_value=-90, max_value=90)
    longitude = StrictFloatField(min_value=-180, max_value=180)


class RegionSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    provider = serializers.CharField(source="provider.name")
    jurisdiction = serializers.CharField()
    latitude = serializers.FloatField()
    longitude = serializers.FloatField()
    created_at = serializers.DateTimeField()


class RegionFilters(serializers.Serializer[Any]):
    provider = serializers.CharField(required=False)
    jurisdiction = serializers.CharField(required=False)


class FailureDomainCreateSerializer(StrictSerializer):
    kind = StrictChoiceField(choices=FailureDomainKind.choices)
    name = PatternField(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,126}$",
        form="Letters, digits and . _ - are wanted, at most 127, a letter or digit first.",
        max_length=127,
    )


class FailureDomainSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    kind = serializers.ChoiceField(choices=FailureDomainKind.choices)
    name = serializers.CharField()
    created_at = serializers.DateTimeField()


class FailureDomainFilters(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(choices=FailureDomainKind.choices, required=False)


class GpuTypeCreateSerializer(StrictSerializer):
    name = TypeNameField()
    vendor = NameField(max_length=32)
    memory_gib = StrictIntegerField(min_value=1, max_value=100_000)
    precisions = serializers.ListField(
        child=StrictChoiceField(choices=Precision.choices), min_length=1, max_length=len(Precision.values)
    )


class GpuTypeSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    vendor = serializers.CharField()
    memory_gib = serializers.IntegerField()
    precisions = serializers.ListField(child=serializers.CharField())
    created_at = serializers.DateTimeField()


class InstanceTypeCreateSerializer(StrictSerializer):
    name = TypeNameField()
    provider = StrictCharField(max_length=63)
    gpu_type = StrictCharField(max_length=63)
    gpus = StrictIntegerField(min_value=1, max_value=1024)


class InstanceTypeSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    provider = serializers.CharField(source="provider.name")
    gpu_type = serializers.CharField(source="gpu_type.name")
    gpus = serializers.IntegerField()
    created_at = serializers.DateTimeField()


class InstanceTypeFilters(serializers.Serializer[Any]):
    provider = serializers.CharField(required=False)
    gpu_type = serializers.CharField(required=False)


class LatencyPutSerializer(StrictSerializer):
    origin = StrictCharField(max_length=63)
    target = StrictCharField(max_length=63)
    rtt_ms = StrictFloatField(min_value=0, max_value=2000)


class LatencySerializer(serializers.Serializer[Any]):
    origin = serializers.CharField(source="origin.name")
    target = serializers.CharField(source="target.name")
    rtt_ms = serializers.FloatField()


class LatencyFilters(serializers.Serializer[Any]):
    origin = serializers.CharField(required=False)


class NetworkPricePutSerializer(StrictSerializer):
    origin = StrictCharField(max_length=63, help_text="where the clients are")
    target = StrictCharField(max_length=63, help_text="where they are served: what leaves it is paid")
    price_usd_per_gib = UsdField(help_text="100 at most")

    def validate_price_usd_per_gib(self, value: int) -> int:
        if value > 100 * MICRO:
            raise ValidationError("Is over 100 USD for a GiB: is it the price of a TiB?")
        return value


class NetworkPriceSerializer(serializers.Serializer[Any]):
    origin = serializers.CharField(source="origin.name")
    target = serializers.CharField(source="target.name")
    price_usd_per_gib = UsdField(source="micro_usd_per_gib")


class NetworkPriceFilters(serializers.Serializer[Any]):
    origin = serializers.CharField(required=False)


class ObtainabilityField(StrictFloatField):
    """A share above 0 and at most 1."""

    def __init__(self, **kwargs: Any) -> None:
        help_text = "of the instances that were asked for, the share that was had"
        super().__init__(min_value=0.001, max_value=1, required=False, help_text=help_text, **kwargs)


class ClusterCreateSerializer(StrictSerializer):
    name = NameField()
    region = StrictCharField(max_length=63)
    failure_domains = serializers.ListField(child=DomainField(), max_length=32, required=False, default=list)
    schedulable = StrictBooleanField(required=False, default=True)


class ClusterPatchSerializer(StrictSerializer):
    failure_domains = serializers.ListField(child=DomainField(), max_length=32, required=False)
    schedulable = StrictBooleanField(required=False)


class ClusterSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    region = serializers.CharField(source="region.name")
    provider = serializers.CharField(source="region.provider.name")
    jurisdiction = serializers.CharField(source="region.jurisdiction")
    failure_domains = serializers.SerializerMethodField()
    schedulable = serializers.BooleanField()
    enrolled = serializers.BooleanField(source="is_enrolled", help_text="an agent's key is bound to it")
    connected = serializers.BooleanField(source="is_connected", help_text="the agent's lease runs")
    gateway_url = serializers.CharField()
    retired_at = serializers.DateTimeField(
        allow_null=True, help_text="its agent is refused since then, for good"
    )
    generation = serializers.IntegerField()
    created_at = serializers.DateTimeField()

    def get_failure_domains(self, cluster: Any) -> list[str]:
        return sorted(str(domain) for domain in cluster.failure_domains.all())


class ClusterFilters(serializers.Serializer[Any]):
    region = serializers.CharField(required=False)


class EnrolmentTokenSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    cluster = serializers.CharField()
    token = serializers.CharField(allow_null=True, help_text="for the agent's first start; shown once")
    expires_at = serializers.DateTimeField()
    note = serializers.CharField(allow_null=True, help_text="why token is null")


class PoolCreateSerializer(StrictSerializer):
    cluster = StrictCharField(max_length=63)
    name = NameField()
    instance_type = StrictCharField(max_length=63)
    procurement = StrictChoiceField(choices=Procurement.choices)
    capacity_instances = StrictIntegerField(max_value=MAX_INSTANCES)
    price_usd_per_h = UsdField()
    hazard_per_h = StrictFloatField(min_value=0, max_value=MAX_HAZARD_PER_H, required=False, default=0.0)
    obtainability = ObtainabilityField(default=1.0)
    schedulable = StrictBooleanField(required=False, default=True)


class PoolPatchSerializer(StrictSerializer):
    capacity_instances = StrictIntegerField(max_value=MAX_INSTANCES, required=False)
    price_usd_per_h = UsdField(required=False)
    hazard_per_h = StrictFloatField(min_value=0, max_value=MAX_HAZARD_PER_H, required=False)
    obtainability = ObtainabilityField()
    schedulable = StrictBooleanField(required=False)


class PoolSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    cluster = serializers.CharField(source="cluster.name")
    name = serializers.CharField()
    instance_type = serializers.CharField(source="instance_type.name")
    gpu_type = serializers.CharField(source="instance_type.gpu_type.name")
    procurement = serializers.ChoiceField(choices=Procurement.choices)
    capacity_instances = serializers.IntegerField()
    capacity_gpus = serializers.SerializerMethodField()
    price_usd_per_h = UsdField(source="micro_usd_per_h", help_text="of one instance, now")
    hazard_per_h = serializers.FloatField(help_text="expected losses of an instance per hour")
    obtainability = serializers.FloatField(
        help_text="of the instances that were asked for, the share that was had"
    )
    hazard_learned_per_h = serializers.FloatField(
        allow_null=True, help_text="by recorded losses, hazard_per_h as the prior; null: nothing was seen"
    )
    obtainability_learned = serializers.FloatField(
        allow_null=True, help_text="by recorded launches, obtainability as the prior; null: nothing was seen"
    )
    schedulable = serializers.BooleanField()
    generation = serializers.IntegerField()
    created_at = serializers.DateTimeField()

    def get_capacity_gpus(self, pool: Any) -> int:
        return int(pool.capacity_instances * pool.instance_type.gpus)


class PoolFilters(serializers.Serializer[Any]):
    cluster = serializers.CharField(required=False)
    procurement = serializers.ChoiceField(choices=Procurement.choices, required=False)
    gpu_type = serializers.CharField(required=False)


class PoolPriceSerializer(serializers.Serializer[Any]):
    price_usd_per_h = UsdField(source="instance_micro_usd_per_h")
    effective_from = serializers.DateTimeField()


class ReservationCreateSerializer(StrictSerializer):
    pool = StrictUuidField()
    instances = StrictIntegerField(min_value=1, max_value=MAX_INSTANCES)
    price_usd_per_h = UsdField()
    starts_at = StrictDateTimeField()
    ends_at = StrictDateTimeField()


class ReservationPatchSerializer(StrictSerializer):
    instances = StrictIntegerField(min_value=1, max_value=MAX_INSTANCES, required=False)
    price_usd_per_h = UsdField(required=False)
    starts_at = StrictDateTimeField(required=False)
    ends_at = StrictDateTimeField(required=False)


class ReservationSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    pool = serializers.UUIDField(source="pool_id")
    cluster = serializers.CharField(source="pool.cluster.name")
    instances = serializers.IntegerField()
    price_usd_per_h = UsdField(source="instance_micro_usd_per_h")
    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField()
    created_at = serializers.DateTimeField()


class ReservationFilters(serializers.Serializer[Any]):
    pool = serializers.UUIDField(required=False)
