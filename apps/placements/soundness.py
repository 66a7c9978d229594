"""Stored rows that no problem may hold: what each of them keeps out of placement. Pure; reads and writes nothing.

One such row must not stop a whole organization. A deployment that it concerns is left out of the problem: it keeps its
replicas, whose room is taken, and gets a refusal. A pool that it concerns is closed: what runs there stays.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from controlplane.placement import Pool, RowError
from controlplane.placement.checks import CURRENT, POOL, Range
from workloadplane.protocol.refusal import Refusal

T = TypeVar("T")

#: What a closed pool counts with in the place of what it may not say; anything else at the limit that is nearest.
_HARMLESS: Mapping[str, Any] = {"hazard_per_h": 0.0, "obtainability": 1.0, "instance_micro_usd_per_h": None}
_GPU_PRICE = next(one for one in POOL if one.field == "gpu_micro_usd_per_h")


@dataclass
class Unsound:
    """What was found while rows were read.

    deployments: deployment id -> why it is left out; pools: pool id -> why it is closed
    others:      what else is wrong: rows without which the rest can be planned
    """

    deployments: dict[str, str] = field(default_factory=dict)
    pools: dict[str, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)

    def read(
        self, make: Callable[[], T], *, deployment_ids: Iterable[object] = (), pool_id: object = None
    ) -> T | None:
        """What ``make`` makes; None where no problem may hold it, and then these are kept out of placement."""
        try:
            return make()
        except RowError as error:
            ids = [str(one) for one in deployment_ids]
            for deployment_id in ids:
                self.deployments.setdefault(deployment_id, str(error))
            if pool_id is not None:
                self.pools.setdefault(str(pool_id), str(error))
            elif not ids:
                self.others.append(str(error))
            return None

    @property
    def said(self) -> str:
        """All of it, without naming what is one project's; empty where all is sound."""
        told = [*sorted(self.pools.values()), *sorted(self.others)]
        if self.deployments:
            count = len(self.deployments)
            told.append(f"{count} deployment{'s' if count > 1 else ''}, whose projects are told why")
        return "; ".join(told)


def deployment_refusal(name: str, why: str) -> Refusal:
    """What a deployment is told that is left out."""
    value, _, remedy = why.partition("; ")
    return Refusal(
        rule="out_of_range",
        subject=f"deployment {name}",
        value=value.removeprefix(f"deployment {name}: "),
        remedy=remedy,
    )


def pool_closed(fields: Mapping[str, Any], why: str) -> Pool:
    """The pool of these fields, closed, with nothing in it that no problem may hold."""
    sound = _limited(fields, POOL)
    price = sound["instance_micro_usd_per_h"]
    if price is not None and price > _GPU_PRICE.most * sound["gpus_per_instance"]:
        sound["instance_micro_usd_per_h"] = None
    return Pool(**{**sound, "closed": f"its row can't be planned with: {why}"})


def held_limited(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What a deployment holds that is left out, within what a problem may hold."""
    return _limited(fields, CURRENT)


def _limited(fields: Mapping[str, Any], ranges: Iterable[Range]) -> dict[str, Any]:
    sound = dict(fields)
    for name, least, most, _ in ranges:
        value = sound.get(name)
        if value is not None and not least <= value <= most:
            sound[name] = _HARMLESS.get(name, int(most if value > most else least))
    return sound
