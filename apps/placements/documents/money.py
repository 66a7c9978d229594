"""What a plan costs and how good it is, as it is told."""

from collections.abc import Iterable
from typing import Any

from rest_framework import serializers

from apps.api.money import usd
from controlplane.placement import PlacementPlan, PlanCost


class CostSerializer(serializers.Serializer[Any]):
    """What a plan is judged by, in USD/h: what its rooms add to the bill, and all else that counts."""

    rent = serializers.CharField(help_text="Beyond what is reserved and paid for already.")
    interruption = serializers.CharField(help_text="Expected losses of spot capacity.")
    refusal = serializers.CharField(help_text="New capacity that may not be had when it is asked for.")
    lateness = serializers.CharField(help_text="Round trips beyond what the network may take.")
    network = serializers.CharField(help_text="Tokens that leave a region.")
    churn = serializers.CharField(help_text="Moves of what runs: cold starts and caches.")
    relaxed = serializers.CharField(help_text="Wishes that are not kept.")
    total = serializers.CharField()


class BoundSerializer(serializers.Serializer[Any]):
    """What the plan costs with all that counts beside the rent, and how much less any plan could cost."""

    objective_usd_per_h = serializers.CharField()
    lower_bound_usd_per_h = serializers.CharField(help_text="No plan costs less.")
    gap_percent = serializers.FloatField(help_text="Of the bound: the plan is at most so far from the best.")


def cost_document(costs: Iterable[PlanCost]) -> dict[str, Any]:
    """The sum of these, part by part."""
    rows = list(costs)
    parts = {
        name: sum(getattr(row, f"{name}_micro_usd_per_h") for row in rows)
        for name in CostSerializer().get_fields()
    }
    return {name: usd(micro_usd_per_h) for name, micro_usd_per_h in parts.items()}


def bound_document(plan: PlacementPlan) -> dict[str, Any] | None:
    """None where the solver had no bound."""
    objective, bound = plan.objective_micro_usd_per_h, plan.lower_bound_micro_usd_per_h
    if objective is None or bound is None:
        return None
    return {
        "objective_usd_per_h": usd(objective),
        "lower_bound_usd_per_h": usd(bound),
        "gap_percent": gap_percent(objective, bound),
    }


def gap_percent(objective_micro_usd_per_h: int, lower_bound_micro_usd_per_h: int) -> float:
    """By how much the plan is dearer than the bound at most, in percent of the bound."""
    over = objective_micro_usd_per_h - lower_bound_micro_usd_per_h
    return round(100 * over / lower_bound_micro_usd_per_h, 3) if lower_bound_micro_usd_per_h > 0 else 0.0
