"""What changes from one plan to another, as it is told."""

from collections.abc import Iterable
from typing import Any

import msgspec
from rest_framework import serializers

from apps.api.money import usd
from apps.api.refusals import RefusalSerializer
from apps.placements.asker import Asker
from apps.placements.comparisons import Comparison, Side
from apps.placements.documents.certificates import CertificateSerializer, certificate_document
from apps.placements.documents.money import CostSerializer, cost_document, sums_of_field
from controlplane.placement import DeploymentDiff, FailureDomain, PlanDiff

#: So many deployments are told one by one, the worst news first; the rest is counted.
DEPLOYMENTS_TOLD = 200


class PlanSideSerializer(serializers.Serializer[Any]):
    """One of the two plans; its money is that of ``sums_of``."""

    plan_generation = serializers.IntegerField(allow_null=True, help_text="null: not stored")
    usd_per_h = serializers.CharField()
    usd_per_h_marginal = serializers.CharField(help_text="What of it is not paid for already.")


class MoveSerializer(serializers.Serializer[Any]):
    """Replicas that leave a pool while as many start in another."""

    from_pool = serializers.CharField(help_text="cluster/pool; empty: they start anew.")
    to_pool = serializers.CharField(help_text="cluster/pool; empty: they stop.")
    replicas = serializers.IntegerField(help_text="0: a place to start in, of what scales to zero.")


class DeploymentDiffSerializer(serializers.Serializer[Any]):
    """What changes for one deployment. ``said`` has all of it in words."""

    name = serializers.CharField()
    said = serializers.CharField()
    moves = MoveSerializer(many=True)
    revision_before = serializers.IntegerField(allow_null=True)
    revision_after = serializers.IntegerField(allow_null=True)
    serves_before = serializers.ListField(child=serializers.CharField(), help_text="Clusters that serve.")
    serves_after = serializers.ListField(child=serializers.CharField())
    cost_before = CostSerializer()
    cost_after = CostSerializer()
    promise_kept_before = serializers.BooleanField(allow_null=True)
    promise_kept_after = serializers.BooleanField(allow_null=True)
    survives_no_more = serializers.ListField(child=serializers.CharField(), help_text="KIND:NAME")
    survives_now = serializers.ListField(child=serializers.CharField(), help_text="KIND:NAME")
    refused = RefusalSerializer(
        allow_null=True, help_text="Why it is not placed as wanted, where it was or for another reason."
    )
    placed = serializers.BooleanField(help_text="Whether it was not placed as wanted, and is now.")
    given_up = RefusalSerializer(many=True, help_text="Wishes that are no longer kept.")
    granted = RefusalSerializer(many=True, help_text="Wishes that are kept again.")


class PlanDiffSerializer(serializers.Serializer[Any]):
    """What changes for the project's deployments, and in the sums."""

    sums_of = sums_of_field()
    before = PlanSideSerializer()
    after = PlanSideSerializer()
    cost_before = CostSerializer(help_text="Of the project's deployments.")
    cost_after = CostSerializer(help_text="Of the project's deployments, moves included.")
    replicas_moved = serializers.IntegerField()
    replicas_started = serializers.IntegerField()
    replicas_stopped = serializers.IntegerField()
    promises_lost = serializers.IntegerField()
    promises_gained = serializers.IntegerField()
    deployments = DeploymentDiffSerializer(
        many=True, help_text=f"Those that change, the worst news first; at most {DEPLOYMENTS_TOLD}."
    )
    deployments_changed = serializers.IntegerField()
    deployments_unchanged = serializers.IntegerField()


class WhatIfAnswerSerializer(serializers.Serializer[Any]):
    """What would be planned, against what is in force; the certificate is that of the deployments that would change."""

    solve_s = serializers.FloatField()
    solved_by = serializers.ChoiceField(
        choices=("greedy", "search"),
        help_text="greedy: one deployment after the other; search: that, and then whole plans by prices for a moment.",
    )
    gap_percent = serializers.FloatField(
        allow_null=True,
        help_text="By so much the plan is dearer than any other could be in which nobody gives up more, at most; null:"
        " nothing was proven.",
    )
    diff = PlanDiffSerializer()
    certificate = CertificateSerializer()


def what_if_document(comparison: Comparison, *, asker: Asker) -> dict[str, Any]:
    """The answer to a question, told of the asker's deployments."""
    diff = comparison.diff(asker.project_id)
    shown = {row.deployment_id for row in diff.deployments[:DEPLOYMENTS_TOLD]}
    return {
        "solve_s": comparison.solve_s,
        "solved_by": "search" if comparison.searched else "greedy",
        "gap_percent": comparison.gap_percent,
        "diff": _told(comparison, diff, asker),
        "certificate": certificate_document(comparison.certificate(shown), deployment_ids=shown),
    }


def diff_document(comparison: Comparison, *, asker: Asker) -> dict[str, Any]:
    """A comparison, told of the asker's deployments."""
    return _told(comparison, comparison.diff(asker.project_id), asker)


def _told(comparison: Comparison, diff: PlanDiff, asker: Asker) -> dict[str, Any]:
    return {
        "sums_of": asker.sums_of,
        "before": _side(comparison.before, asker),
        "after": _side(comparison.after, asker),
        "cost_before": cost_document((diff.cost_before,)),
        "cost_after": cost_document((diff.cost_after,)),
        "replicas_moved": diff.replicas_moved,
        "replicas_started": diff.replicas_started,
        "replicas_stopped": diff.replicas_stopped,
        "promises_lost": len(diff.promises_lost),
        "promises_gained": len(diff.promises_gained),
        "deployments": [_deployment(row) for row in diff.deployments[:DEPLOYMENTS_TOLD]],
        "deployments_changed": len(diff.deployments),
        "deployments_unchanged": diff.unchanged,
    }


def _side(side: Side, asker: Asker) -> dict[str, Any]:
    spent = side.spending(asker)
    return {
        "plan_generation": side.plan_generation,
        "usd_per_h": usd(spent.micro_usd_per_h),
        "usd_per_h_marginal": usd(spent.marginal_micro_usd_per_h),
    }


def _deployment(row: DeploymentDiff) -> dict[str, Any]:
    return {
        "name": row.deployment,
        "said": str(row).removeprefix(f"{row.deployment}: "),
        "moves": [
            {"from_pool": move.from_pool, "to_pool": move.to_pool, "replicas": move.replicas}
            for move in row.moves
        ],
        "revision_before": row.revision_before,
        "revision_after": row.revision_after,
        "serves_before": list(row.serves_before),
        "serves_after": list(row.serves_after),
        "cost_before": cost_document((row.cost_before,)),
        "cost_after": cost_document((row.cost_after,)),
        "promise_kept_before": row.promise_kept_before,
        "promise_kept_after": row.promise_kept_after,
        "survives_no_more": _named(row.survives_no_more),
        "survives_now": _named(row.survives_now),
        "refused": msgspec.to_builtins(row.refused),
        "placed": row.placed,
        "given_up": [msgspec.to_builtins(refusal) for refusal in row.given_up],
        "granted": [msgspec.to_builtins(refusal) for refusal in row.granted],
    }


def _named(domains: Iterable[FailureDomain]) -> list[str]:
    return [f"{domain.kind}:{domain.name}" for domain in domains]
