"""What a plan costs and how good it is, as it is told."""

from collections.abc import Iterable
from typing import Any

from rest_framework import serializers

from apps.api.money import usd
from apps.placements.asker import Asker
from apps.placements.selectors import PlanBound
from controlplane.placement import PlanCost


class CostSerializer(serializers.Serializer[Any]):
    """What a plan is judged by, in USD/h: what its rooms add to the bill, and all else that counts."""

    rent = serializers.CharField(help_text="Beyond what is reserved and paid for already.")
    interruption = serializers.CharField(help_text="Expected losses of spot capacity.")
    refusal = serializers.CharField(help_text="New capacity that may not be had when it is asked for.")
    lateness = serializers.CharField(help_text="Round trips beyond what the network may take.")
    network = serializers.CharField(help_text="Tokens that leave a region.")
    churn = serializers.CharField(help_text="Moves of what runs: cold starts, caches, hand-overs of a pair.")
    relaxed = serializers.CharField(help_text="Wishes that are not kept.")
    total = serializers.CharField()


def sums_of_field() -> serializers.ChoiceField:
    """Whose money the sums are."""
    return serializers.ChoiceField(
        choices=("organization", "project"),
        help_text="Whose deployments the sums are made of: all of the organization's for its operators, else the"
        " project's.",
    )


class BoundSerializer(serializers.Serializer[Any]):
    """What the plan costs with all that counts beside the rent, and how much less any plan could cost."""

    objective_usd_per_h = serializers.CharField(allow_null=True, help_text="null: its project's reader asks.")
    lower_bound_usd_per_h = serializers.CharField(
        allow_null=True, help_text="No plan in which nobody gives up more costs less; likewise."
    )
    gap_percent = serializers.FloatField(
        help_text="Of the bound: the plan is at most so far from the best in which nobody gives up more."
    )
    proven_at = serializers.DateTimeField(help_text="With this plan, or by the last full solve.")


def cost_document(costs: Iterable[PlanCost]) -> dict[str, Any]:
    """The sum of these, part by part."""
    rows = list(costs)
    parts = {
        name: sum(getattr(row, f"{name}_micro_usd_per_h") for row in rows)
        for name in CostSerializer().get_fields()
    }
    return {name: usd(micro_usd_per_h) for name, micro_usd_per_h in parts.items()}


def bound_document(bound: PlanBound | None, asker: Asker) -> dict[str, Any] | None:
    """None where no bound was proven. The sums in it are all projects'; how far they are apart is everybody's."""
    if bound is None:
        return None
    return {
        "objective_usd_per_h": usd(bound.objective_micro_usd_per_h) if asker.operates else None,
        "lower_bound_usd_per_h": usd(bound.lower_bound_micro_usd_per_h) if asker.operates else None,
        "gap_percent": bound.gap_percent,
        "proven_at": bound.proven_at,
    }
