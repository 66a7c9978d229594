"""The form for a question "what if": each part may be left out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from django import forms

from apps.console.forms.base import DocumentForm
from apps.deployments.models import Survivability
from apps.fleet.models import Procurement

#: What the pool that a form adds is called; beside the cluster's own names, which a person chose.
ADDED_NAME = "what-if"
_AS_IT_IS = ("", "as it is")
_SURVIVES = (
    _AS_IT_IS,
    (Survivability.NONE, "no loss"),
    (Survivability.ZONE, "the loss of a zone"),
    (Survivability.REGION, "the loss of a region"),
    (Survivability.PROVIDER, "the loss of a provider"),
)
_PROCUREMENTS = tuple((value, value.replace("_", " ")) for value in Procurement.values)


@dataclass(frozen=True)
class WhatIfOptions:
    """What can be chosen: losses (``kind:name``) by kind, pools (``cluster/pool``), clusters, instance types."""

    losses: Mapping[str, Sequence[str]]
    pools: Sequence[str]
    clusters: Sequence[str]
    instance_types: Sequence[str]


class WhatIfForm(DocumentForm):
    """One change of each kind. The service judges the values; the form only reads them."""

    pointers: ClassVar[Mapping[str, str]] = {
        "/lose": "lose",
        "/prices/0/pool": "price_pool",
        "/prices/0": "price_usd_per_h",
        "/capacities/0/pool": "capacity_pool",
        "/capacities/0": "capacity_instances",
        "/add_pools/0/cluster": "add_cluster",
        "/add_pools/0/name": "add_cluster",
        "/add_pools/0/instance_type": "add_instance_type",
        "/add_pools/0/capacity_instances": "add_instances",
        "/add_pools/0/price_usd_per_h": "add_price_usd_per_h",
        "/add_pools/0/hazard_per_h": "add_hazard_per_h",
        "/demand/0/deployment": "demand_deployment",
        "/demand/0": "demand_factor",
        "/deployments/0/name": "wish_deployment",
        "/deployments/0/min_replicas": "wish_min_replicas",
        "/deployments/0": "wish_max_replicas",
    }

    lose = forms.ChoiceField(label="This is lost", required=False)
    price_pool = forms.ChoiceField(label="Pool", required=False)
    price_usd_per_h = forms.CharField(label="An instance costs (USD / h)", required=False, max_length=16)
    capacity_pool = forms.ChoiceField(label="Pool", required=False)
    capacity_instances = forms.IntegerField(label="Has so many instances", required=False)
    add_cluster = forms.ChoiceField(label="In cluster", required=False)
    add_instance_type = forms.ChoiceField(label="Instance type", required=False)
    add_procurement = forms.ChoiceField(label="Procurement", required=False, choices=_PROCUREMENTS)
    add_instances = forms.IntegerField(label="Instances", required=False)
    add_price_usd_per_h = forms.CharField(label="Price (USD / h)", required=False, max_length=16)
    add_hazard_per_h = forms.FloatField(
        label="Taken back (times / h)", required=False, help_text="An instance of spot capacity, on average."
    )
    demand_factor = forms.FloatField(
        label="Demand, times", required=False, help_text="1.5 is half as much again."
    )
    demand_deployment = forms.CharField(
        label="Of deployment",
        required=False,
        max_length=63,
        help_text="Left empty: of all whose sums you see.",
    )
    wish_deployment = forms.CharField(label="Deployment", required=False, max_length=63)
    wish_survivability = forms.ChoiceField(label="Must survive", required=False, choices=_SURVIVES)
    wish_min_replicas = forms.IntegerField(label="Minimum", required=False)
    wish_max_replicas = forms.IntegerField(label="Maximum", required=False)

    def __init__(self, *args: Any, options: WhatIfOptions, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        nothing = ("", "nothing")
        losses = [
            (kind.replace("_", " "), [(f"{kind}:{name}", name) for name in names])
            for kind, names in options.losses.items()
            if names
        ]
        self._choose("lose", [nothing, *losses])
        for name in ("price_pool", "capacity_pool"):
            self._choose(name, [_AS_IT_IS, *_same(options.pools)])
        self._choose("add_cluster", [("", "none"), *_same(options.clusters)])
        self._choose("add_instance_type", _same(options.instance_types))

    def _choose(self, name: str, choices: Sequence[Any]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101  (declared above)
        field.choices = choices

    def clean(self) -> dict[str, Any]:
        """What is filled in half is asked for: left out, it would look like an answer to the whole question."""
        said = {name for name, value in self.cleaned_data.items() if value not in ("", None)}
        for wanted, (remedy, others) in _WANTED.items():
            if wanted not in said and said.intersection(others):
                self.add_error(wanted, remedy)
        return self.cleaned_data

    def document(self) -> dict[str, Any]:
        """The question. Only after ``is_valid``."""
        said = {name: value for name, value in self.cleaned_data.items() if value not in ("", None)}
        document: dict[str, Any] = {}
        if "lose" in said:
            document["lose"] = [said["lose"]]
        for part, prefix, first in (
            ("prices", "price_", "price_pool"),
            ("capacities", "capacity_", "capacity_pool"),
            ("add_pools", "add_", "add_cluster"),
            ("deployments", "wish_", "wish_deployment"),
        ):
            if first in said:
                document[part] = [_row(said, prefix)]
        if "add_pools" in document:
            document["add_pools"][0]["name"] = ADDED_NAME
        if "demand_factor" in said:
            document["demand"] = [_row(said, "demand_")]
        return document


#: What each part of a question needs, what is said without it, and the fields that need it.
_WANTED: Mapping[str, tuple[str, Sequence[str]]] = {
    "price_pool": ("Choose the pool that costs this.", ("price_usd_per_h",)),
    "capacity_pool": ("Choose the pool that has so many.", ("capacity_instances",)),
    "add_cluster": (
        "Choose the cluster of this pool.",
        ("add_instances", "add_price_usd_per_h", "add_hazard_per_h"),
    ),
    "demand_factor": ("Say how many times its demand.", ("demand_deployment",)),
    "wish_deployment": (
        "Name the deployment that wants this.",
        ("wish_survivability", "wish_min_replicas", "wish_max_replicas"),
    ),
}

#: What a field is called in the document, where that is not its name without the prefix.
_NAMES: Mapping[str, str] = {
    "price_usd_per_h": "price_usd_per_h",
    "capacity_instances": "capacity_instances",
    "add_instances": "capacity_instances",
    "wish_deployment": "name",
}


def _row(said: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {
        _NAMES.get(name, name.removeprefix(prefix)): value
        for name, value in said.items()
        if name.startswith(prefix)
    }


def _same(values: Iterable[str]) -> list[tuple[str, str]]:
    return [(value, value) for value in values]
