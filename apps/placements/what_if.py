"""The document of a question "what if": its shape, and the changes of a problem that it stands for.

Names are those that people use: ``cluster/pool``, a deployment of the actor's own project, ``kind:name`` for what is
lost. What a document names must be there; a complaint points at the field that names it.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from rest_framework import serializers

from apps.api.field_errors import FieldError, field_errors
from apps.api.problems import Problem
from apps.api.validation import (
    NameField,
    PatternField,
    StrictCharField,
    StrictChoiceField,
    StrictFloatField,
    StrictIntegerField,
    StrictSerializer,
    UsdField,
)
from apps.deployments.models import Survivability
from apps.fleet import selectors as fleet
from apps.fleet.models import InstanceType, Procurement
from apps.placements.asker import Asker
from controlplane.placement import Cluster, FailureDomain, LossKind, PlacementProblem, Pool, RowError
from controlplane.placement.questions.what_if import (
    CapacityChanged,
    Change,
    DemandScaled,
    DeploymentChanged,
    Lost,
    PoolAdded,
    PriceChanged,
    applied,
    out_of_range,
)
from workloadplane.protocol.refusal import Refusal
from workloadplane.words import counted

#: Changes in one question.
CHANGES_MAX = 20
LOSS_PATTERN = r"^(zone|region|provider|spot_group|cluster|pool):.{1,130}$"
LOSS_FORM = (
    "KIND:NAME is wanted, KIND one of zone, region, provider, cluster, pool (NAME is cluster/pool) and spot_group"
    " (NAME is instance-type@zone)."
)


def loss_field(**kwargs: Any) -> PatternField:
    """``region:eu-west-1``."""
    return PatternField(pattern=LOSS_PATTERN, form=LOSS_FORM, **kwargs)


def loss_read(text: str) -> FailureDomain:
    """What ``loss_field`` has let pass."""
    kind, _, name = text.partition(":")
    return FailureDomain(kind=cast(LossKind, kind), name=name)


def _pool_field() -> StrictCharField:
    return StrictCharField(max_length=130, help_text="cluster/pool")


class PriceSerializer(StrictSerializer):
    """What an instance of a pool costs."""

    pool = _pool_field()
    price_usd_per_h = UsdField()


class CapacitySerializer(StrictSerializer):
    """How many instances a pool has."""

    pool = _pool_field()
    capacity_instances = StrictIntegerField(max_value=100_000)


class PoolAddedSerializer(StrictSerializer):
    """A pool that is not there yet; a reserved one is paid for whole."""

    cluster = StrictCharField(max_length=63)
    name = NameField()
    instance_type = StrictCharField(max_length=63, help_text="One of the cluster's provider.")
    procurement = StrictChoiceField(choices=Procurement.choices)
    capacity_instances = StrictIntegerField(min_value=1, max_value=100_000)
    price_usd_per_h = UsdField()
    hazard_per_h = StrictFloatField(min_value=0, max_value=60, required=False, default=0.0)


class DemandSerializer(StrictSerializer):
    """So many times the demand that is known."""

    deployment = StrictCharField(
        max_length=63,
        required=False,
        help_text="Without it: all of those whose sums the asker sees.",
    )
    factor = StrictFloatField(min_value=0, max_value=1000)


class WishSerializer(StrictSerializer):
    """What a deployment of the project would want instead."""

    name = StrictCharField(max_length=63)
    survivability = StrictChoiceField(choices=Survivability.choices, required=False)
    min_replicas = StrictIntegerField(max_value=10_000, required=False)
    max_replicas = StrictIntegerField(min_value=1, max_value=10_000, required=False)


class WhatIfSerializer(StrictSerializer):
    """What would be otherwise; at least one change, at most twenty in all. They happen in this order."""

    lose = serializers.ListField(child=loss_field(), required=False, max_length=CHANGES_MAX)
    prices = PriceSerializer(many=True, required=False)
    capacities = CapacitySerializer(many=True, required=False)
    add_pools = PoolAddedSerializer(many=True, required=False)
    demand = DemandSerializer(many=True, required=False)
    deployments = WishSerializer(many=True, required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        count = sum(len(rows) for rows in attrs.values())
        if not 1 <= count <= CHANGES_MAX:
            raise serializers.ValidationError(
                f"{counted(count, 'change')}: ask for 1 to {CHANGES_MAX} at once."
            )
        return attrs


@dataclass(frozen=True)
class Asked:
    """One change and where in the document it stands."""

    pointer: str
    value: Any
    change: Change | Refusal


def what_if_read(raw: Any) -> Mapping[str, Any]:
    """The question that somebody sent. Raises Problem ``invalid_document`` with a pointer for each wrong field."""
    serializer = WhatIfSerializer(data=raw)
    if serializer.is_valid():
        return cast(Mapping[str, Any], serializer.validated_data)
    found = field_errors(serializer.errors, raw)
    lines = [f"{error.pointer or 'the document'}: {error.detail}" for error in found[:3]]
    raise Problem("invalid_document", "; ".join(lines), errors=found)


def what_if_applied(
    problem: PlacementProblem, document: Mapping[str, Any], *, asker: Asker
) -> PlacementProblem:
    """The problem after all that the document says. Raises Problem ``invalid_document`` for unknown names."""
    for part, read in _READERS.items():
        for index, row in enumerate(document.get(part, ())):
            for asked in read(problem, row, f"/{part}/{index}", asker):
                answer = asked.change if isinstance(asked.change, Refusal) else applied(problem, asked.change)
                if isinstance(answer, Refusal):
                    raise _complaint(asked, answer)
                problem = answer
    return problem


def _complaint(asked: Asked, refusal: Refusal) -> Problem:
    error = FieldError(pointer=asked.pointer, detail=refusal.value, value=asked.value, remedy=refusal.remedy)
    return Problem("invalid_document", f"{asked.pointer}: {refusal.value}", errors=[error])


def _losses(problem: PlacementProblem, row: str, pointer: str, asker: Asker) -> Iterator[Asked]:
    yield Asked(pointer, row, Lost(domain=loss_read(row)))


def _prices(problem: PlacementProblem, row: Mapping[str, Any], pointer: str, asker: Asker) -> Iterator[Asked]:
    change = PriceChanged(pool=row["pool"], instance_micro_usd_per_h=row["price_usd_per_h"])
    yield Asked(f"{pointer}/pool", row["pool"], change)


def _capacities(
    problem: PlacementProblem, row: Mapping[str, Any], pointer: str, asker: Asker
) -> Iterator[Asked]:
    change = CapacityChanged(pool=row["pool"], capacity_instances=row["capacity_instances"])
    yield Asked(f"{pointer}/pool", row["pool"], change)


def _added(problem: PlacementProblem, row: Mapping[str, Any], pointer: str, asker: Asker) -> Iterator[Asked]:
    cluster = next((one for one in problem.clusters if one.name == row["cluster"]), None)
    if cluster is None:
        names = ", ".join(sorted(one.name for one in problem.clusters)[:8]) or "none"
        missing = _missing("there is no cluster of this name", f"known are {names}")
        yield Asked(f"{pointer}/cluster", row["cluster"], missing)
        return
    machine = fleet.instance_types(provider=cluster.provider).filter(name=row["instance_type"]).first()
    if machine is None:
        missing = _missing(
            f"{cluster.provider} has no instance type of this name", "see GET /api/v1/instance-types"
        )
        yield Asked(f"{pointer}/instance_type", row["instance_type"], missing)
        return
    try:
        pool = _pool(cluster, machine, row)
    except RowError as error:
        yield Asked(pointer, None, out_of_range(error))
        return
    yield Asked(f"{pointer}/name", row["name"], PoolAdded(pool=pool))


def _pool(cluster: Cluster, machine: InstanceType, row: Mapping[str, Any]) -> Pool:
    """Of a machine of the catalogue. Raises RowError where its price is another unit's."""
    return Pool(
        pool_id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"{cluster.cluster_id}/{row['name']}")),
        name=row["name"],
        generation=0,
        cluster_id=cluster.cluster_id,
        instance_type_id=str(machine.pk),
        instance_type=machine.name,
        gpu_type=machine.gpu_type.name,
        gpu_vendor=machine.gpu_type.vendor,
        gpu_memory_gib=machine.gpu_type.memory_gib,
        precisions=tuple(sorted(machine.gpu_type.precisions)),
        procurement=row["procurement"],
        gpus_per_instance=machine.gpus,
        capacity_instances=row["capacity_instances"],
        instance_micro_usd_per_h=row["price_usd_per_h"],
        hazard_per_h=row["hazard_per_h"],
    )


def _demand(problem: PlacementProblem, row: Mapping[str, Any], pointer: str, asker: Asker) -> Iterator[Asked]:
    """Without a name the demand of all deployments: for who operates the organization, other projects' too."""
    ids = asker.summed_ids(problem)
    if "deployment" in row:
        deployment_id = _deployment_id(problem, row["deployment"], asker.project_id)
        if isinstance(deployment_id, Refusal):
            yield Asked(f"{pointer}/deployment", row["deployment"], deployment_id)
            return
        ids = frozenset((deployment_id,))
    yield Asked(f"{pointer}/factor", row["factor"], DemandScaled(deployment_ids=ids, factor=row["factor"]))


def _wishes(problem: PlacementProblem, row: Mapping[str, Any], pointer: str, asker: Asker) -> Iterator[Asked]:
    deployment_id = _deployment_id(problem, row["name"], asker.project_id)
    if isinstance(deployment_id, Refusal):
        yield Asked(f"{pointer}/name", row["name"], deployment_id)
        return
    wishes = {name: row[name] for name in ("survivability", "min_replicas", "max_replicas") if name in row}
    yield Asked(pointer, None, DeploymentChanged(deployment_id=deployment_id, **wishes))


def _deployment_id(problem: PlacementProblem, name: str, project_id: str) -> str | Refusal:
    """Of the actor's own project: another project's looks like what never was."""
    own = {row.name: row.deployment_id for row in problem.deployments if row.project_id == project_id}
    return own.get(name) or _missing(
        "there is no deployment of this name here", f"known are {', '.join(sorted(own)[:8]) or 'none'}"
    )


def _missing(value: str, remedy: str) -> Refusal:
    return Refusal(rule="unknown_name", subject="what if", value=value, remedy=remedy)


_READERS: Mapping[str, Callable[[PlacementProblem, Any, str, Asker], Iterator[Asked]]] = {
    "lose": _losses,
    "prices": _prices,
    "capacities": _capacities,
    "add_pools": _added,
    "demand": _demand,
    "deployments": _wishes,
}
