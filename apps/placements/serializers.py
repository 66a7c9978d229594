"""Plans as they are answered: money, bound, reasons and certificate."""

from typing import Any

from rest_framework import serializers

from apps.api.money import usd
from apps.api.pagination import paginate_names
from apps.api.problems import not_found, parameter_problem
from apps.api.validation import StrictCharField
from apps.placements.asker import asker_of
from apps.placements.comparisons import spending
from apps.placements.documents import (
    BoundSerializer,
    CertificateSerializer,
    CostSerializer,
    PlannedDeploymentSerializer,
    SurvivalSerializer,
    bound_document,
    certificate_document,
    cost_document,
    entry_document,
    names_of_project,
    smallest_change_document,
    sums_of_field,
    survival_document,
)
from apps.placements.models import PlacementPlan
from apps.placements.selectors import plan_bound
from apps.placements.what_if import CHANGES_MAX, loss_field, loss_read
from controlplane.placement import (
    certify,
    plan_costs,
    plan_decode,
    problem_decode,
    problem_sha256,
    room_left,
    survive,
)


class PlanSerializer(serializers.Serializer[Any]):
    """A plan in the list. ``context``: ``actor``."""

    plan_generation = serializers.IntegerField()
    usd_per_h = serializers.SerializerMethodField(
        allow_null=True,
        help_text="Of all projects, for their operators; else null: the plan itself tells a project's.",
    )
    solve_s = serializers.FloatField()
    created_at = serializers.DateTimeField()

    def get_usd_per_h(self, row: PlacementPlan) -> str | None:
        return usd(row.micro_usd_per_h) if self.context["actor"].can_operate else None


class PlanFilters(serializers.Serializer[Any]):
    """Query parameters of a plan."""

    deployment = StrictCharField(required=False, help_text="Only the one of this name.")


class DiffFilters(serializers.Serializer[Any]):
    """Query parameters of a diff."""

    against = StrictCharField(
        required=False, max_length=18, help_text="A generation; default: the one before."
    )


class SurviveFilters(serializers.Serializer[Any]):
    """What is lost, all at once."""

    lose = serializers.ListField(
        child=loss_field(),
        min_length=1,
        max_length=CHANGES_MAX,
        help_text="KIND:NAME, given once or several times; KIND is zone, region, provider, cluster, pool (NAME is"
        " cluster/pool) or spot_group (NAME is instance-type@zone).",
    )


class PlanSurvivalSerializer(SurvivalSerializer):
    """What a plan would still serve. ``context``: ``actor``, whose project's deployments are told, and ``lose``."""

    def to_representation(self, instance: PlacementPlan) -> dict[str, Any]:
        problem, plan = problem_decode(instance.problem), plan_decode(instance.plan)
        ids = names_of_project(problem, plan, str(self.context["actor"].project_id))
        lost = tuple(loss_read(text) for text in dict.fromkeys(self.context["lose"]))
        try:
            survival = survive(problem, plan, lost, only=set(ids.values()))
        except ValueError as error:
            raise parameter_problem("lose", str(error).removeprefix("lost: ")) from error
        return survival_document(problem, survival, plan_generation=instance.plan_generation)


class PlanDetailSerializer(serializers.Serializer[Any]):
    """A plan, explained and certified. Deployments are paged, by name; the certificate's losses are theirs."""

    plan_generation = serializers.IntegerField()
    solve_s = serializers.FloatField()
    created_at = serializers.DateTimeField()
    sums_of = sums_of_field()
    usd_per_h = serializers.CharField(help_text="At the minimum of replicas.")
    problem_sha256 = serializers.CharField(help_text="Of the inputs that it answers.")
    usd_per_h_marginal = serializers.CharField(help_text="What of it is not paid for already.")
    bound = BoundSerializer(allow_null=True, help_text="null where none was proven")
    certificate_sha256 = serializers.CharField(
        allow_blank=True, help_text="Of the certificate for all projects, made when the plan was adopted."
    )
    cost = CostSerializer()
    deployments = PlannedDeploymentSerializer(many=True)
    next_cursor = serializers.CharField(allow_null=True, help_text="null on the last page of deployments")
    certificate = CertificateSerializer()

    def to_representation(self, instance: PlacementPlan) -> dict[str, Any]:
        """``context``: ``actor``, whose project's deployments are shown, and ``deployment``, ``limit``, ``cursor``."""
        problem, plan = problem_decode(instance.problem), plan_decode(instance.plan)
        asker = asker_of(self.context["actor"])
        ids = names_of_project(problem, plan, asker.project_id)
        name = self.context.get("deployment")
        if name is not None and name not in ids:
            raise not_found("deployment", name)
        page = paginate_names(
            ids if name is None else (name,),
            limit=self.context.get("limit"),
            cursor=self.context.get("cursor"),
        )
        room = room_left(problem, plan)
        changes = {} if name is None else {name: smallest_change_document(problem, plan, ids[name])}
        costs, summed = plan_costs(problem, plan), asker.summed_ids(problem)
        spent = spending(plan, summed)
        return {
            "plan_generation": instance.plan_generation,
            "sums_of": asker.sums_of,
            "usd_per_h": usd(spent.micro_usd_per_h),
            "solve_s": instance.solve_s,
            "created_at": instance.created_at,
            "problem_sha256": problem_sha256(problem),
            "usd_per_h_marginal": usd(spent.marginal_micro_usd_per_h),
            "bound": bound_document(plan_bound(plan=instance), asker),
            "certificate_sha256": instance.certificate_sha256,
            "cost": cost_document(cost for one, cost in costs.items() if one in summed),
            "deployments": [
                entry_document(problem, plan, ids[one], room=room, cost=costs[ids[one]])
                | {"smallest_change": changes.get(one)}
                for one in page.items
            ],
            "next_cursor": page.next_cursor,
            "certificate": certificate_document(
                certify(problem, plan, only=set(ids.values())),
                deployment_ids={ids[one] for one in page.items},
            ),
        }
