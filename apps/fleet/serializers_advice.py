"""Documents of advice on reservations. Prices are decimal strings of dollars for an instance and hour."""

from typing import Any

from rest_framework import serializers

from apps.api.money import usd
from apps.api.validation import UsdField


class AdviceFilters(serializers.Serializer[Any]):
    region = serializers.CharField(required=False)
    instance_type = serializers.CharField(required=False)
    price_usd_per_h = UsdField(
        required=False,
        help_text="what a reserved instance is offered for; else the newest reservation's price",
    )
    term_days = serializers.IntegerField(
        min_value=1, max_value=1826, required=False, help_text="how long it would last; 365"
    )


class AdviceSerializer(serializers.Serializer[Any]):
    """Of one type of instance in one region. Instances are means of an hour."""

    region = serializers.CharField()
    instance_type = serializers.CharField()
    known_h = serializers.IntegerField(help_text="hours of demand that are known")
    instances_mean = serializers.FloatField(help_text="in use, however they were procured")
    instances_p95 = serializers.FloatField()
    instances_most = serializers.FloatField()
    reserved_instances = serializers.IntegerField(source="reserved", help_text="now")
    price_usd_per_h = UsdField(
        source="price", allow_null=True, help_text="of a reserved instance; null: not known"
    )
    on_demand_usd_per_h = serializers.SerializerMethodField()
    spot_usd_per_h = serializers.SerializerMethodField()
    spot_instances = serializers.SerializerMethodField()
    spot_share = serializers.SerializerMethodField()
    advised_instances = serializers.SerializerMethodField()
    usd_per_h = serializers.SerializerMethodField()
    usd_per_h_now = UsdField(
        source="micro_usd_per_h_now", allow_null=True, help_text="expected with what is reserved now"
    )
    usd_per_h_unreserved = serializers.SerializerMethodField()
    next_use_share = serializers.SerializerMethodField()
    next_saving_usd_per_h = serializers.SerializerMethodField()
    reasons = serializers.ListField(
        child=serializers.CharField(), help_text="what the number rests on, or why none is given"
    )

    def get_on_demand_usd_per_h(self, row: Any) -> str | None:
        """What an instance costs on demand."""
        return _usd(row.alternative and row.alternative.on_demand_micro_usd_per_h)

    def get_spot_usd_per_h(self, row: Any) -> str | None:
        """What an instance costs on spot, with what its losses cost."""
        return _usd(row.alternative and row.alternative.spot_micro_usd_per_h)

    def get_spot_instances(self, row: Any) -> float | None:
        """As many spot instances there are at most."""
        return row.alternative.spot_instances if row.alternative else None

    def get_spot_share(self, row: Any) -> float | None:
        """Of the spot instances asked for, the share that is had."""
        return row.alternative.spot_share if row.alternative else None

    def get_advised_instances(self, row: Any) -> int | None:
        """As many are worth reserving in all; null: it cannot be said."""
        return row.plan.instances if row.plan else None

    def get_usd_per_h(self, row: Any) -> str | None:
        """Expected with as many as are advised, the rest rented."""
        return _usd(row.plan and row.plan.micro_usd_per_h)

    def get_usd_per_h_unreserved(self, row: Any) -> str | None:
        """Expected with none."""
        return _usd(row.plan and row.plan.unreserved_micro_usd_per_h)

    def get_next_use_share(self, row: Any) -> float | None:
        """For this share of the time one more than advised would be in use."""
        return row.plan.next_use_share if row.plan else None

    def get_next_saving_usd_per_h(self, row: Any) -> str | None:
        """So much one more than advised would save in rent; less than its price."""
        return _usd(row.plan and row.plan.next_saving_micro_usd_per_h)


class AdviceListSerializer(serializers.Serializer[Any]):
    items = AdviceSerializer(many=True)


def _usd(micro_usd: float | None) -> str | None:
    return None if micro_usd is None else usd(round(micro_usd))
