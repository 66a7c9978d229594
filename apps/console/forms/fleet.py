"""Forms of pools and reservations."""

from collections.abc import Mapping
from typing import Any, ClassVar

from django import forms

from apps.api.money import micro_usd, usd
from apps.console.forms.base import DocumentForm
from apps.fleet.models import GpuPool, Reservation

MAX_INSTANCES = 100_000


class UsdInput(forms.CharField):
    """Dollars as a decimal string; cleaned as micro-dollars."""

    def clean(self, value: Any) -> int:
        try:
            return micro_usd(super().clean(value).strip())
        except ValueError as error:
            raise forms.ValidationError(f"{str(error).capitalize()}.") from None


class PoolForm(DocumentForm):
    """What can change of a pool."""

    pointers: ClassVar[Mapping[str, str]] = {"/price_usd_per_h": "price_micro_usd_per_h"}

    capacity_instances = forms.IntegerField(
        label="Instances",
        min_value=0,
        max_value=MAX_INSTANCES,
        help_text="For good. To empty it for a time, drain it. What finds no room here moves.",
    )
    price_micro_usd_per_h = UsdInput(label="USD for an instance and hour", help_text="From now on.")
    hazard_per_h = forms.FloatField(
        label="Hazard", min_value=0, max_value=60, help_text="Expected losses of an instance per hour."
    )
    obtainability = forms.FloatField(
        min_value=0.001, max_value=1, help_text="Of the instances asked for, the share that is had."
    )
    schedulable = forms.BooleanField(
        label="Anything new may be sent here", required=False, help_text="What runs here stays either way."
    )


class ReservationForm(DocumentForm):
    """What can change of a reservation."""

    pointers: ClassVar[Mapping[str, str]] = {
        "/ends_at": "ends_at",
        "/price_usd_per_h": "price_micro_usd_per_h",
    }

    instances = forms.IntegerField(min_value=1, max_value=MAX_INSTANCES)
    price_micro_usd_per_h = UsdInput(label="USD for an instance and hour")
    starts_at = forms.DateTimeField(label="From (UTC)")
    ends_at = forms.DateTimeField(label="Until (UTC)")


def pool_values(pool: GpuPool, price_micro_usd_per_h: int | None) -> dict[str, Any]:
    """A pool as its form's initial values."""
    return {
        "capacity_instances": pool.capacity_instances,
        "price_micro_usd_per_h": usd(price_micro_usd_per_h or 0),
        "hazard_per_h": pool.hazard_per_h,
        "obtainability": pool.obtainability,
        "schedulable": pool.schedulable,
    }


def reservation_values(row: Reservation) -> dict[str, Any]:
    """A reservation as its form's initial values."""
    return {
        "instances": row.instances,
        "price_micro_usd_per_h": usd(row.instance_micro_usd_per_h),
        "starts_at": row.starts_at,
        "ends_at": row.ends_at,
    }
