"""Policies of a world's document: the five factors, for each cluster with the bounds that hold there."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from controlplane.simulation.serving.fields import Fields, WorldError
from controlplane.simulation.serving.pools import ServingPool
from controlplane.simulation.serving.renting import Renting
from controlplane.simulation.serving.renting_document import renting_of
from controlplane.simulation.serving.world import ServingWorld
from workloadplane.autoscaling import AutoscalingPolicy

KINDS = ("predictive", "kpa")
#: ``static:N`` is a policy by itself: N replicas all the time.
STATIC = "static:"
_NOTHING = AutoscalingPolicy(
    min_replicas=0,
    max_replicas=0,
    autoscaling_window_s=60.0,
    scale_down_delay_s=0.0,
    concurrency_target=1.0,
    kind="kpa",
)


@dataclass(frozen=True, slots=True)
class Choice:
    """What a policy's name stands for in one cluster."""

    policy: AutoscalingPolicy
    renting: Renting


@dataclass(frozen=True, slots=True)
class Scaling:
    """What a document says for all clusters: ``autoscaling``, ``policies``, ``procurement``. One may differ."""

    shared: Fields
    seats: int
    attainment: float

    def of(
        self, pools: Sequence[ServingPool], own: Fields | None = None
    ) -> tuple[dict[str, AutoscalingPolicy], dict[str, Renting]]:
        """Of a cluster with these pools, by name; and how each rents. ``own``: what it says. Raises WorldError."""
        shared = Fields({}, self.shared.where).over(self.shared)
        base = shared.child("autoscaling", needed=False)
        renting = renting_of(shared, pools, Renting())
        if own is not None:
            base = own.child("autoscaling", needed=False).over(base)
            renting = renting_of(own, pools, renting)
        room = sum(pool.replicas for pool in pools)
        first = replace(_policy(base, self.seats, room, None), slo_attainment=self.attainment)
        found = {"predictive": replace(first, kind="predictive"), "kpa": replace(first, kind="kpa")}
        rentings = dict.fromkeys(found, renting)
        for name, each in shared.named("policies"):
            if name in found or name.startswith(STATIC) or "," in name:
                raise WorldError(f"policies.{name}: this name is taken or holds a comma; give another one")
            rentings[name] = renting_of(each, pools, renting)
            found[name] = _policy(each, self.seats, room, first)
        return found, rentings

    def placed(self, pools: Sequence[ServingPool]) -> tuple[dict[str, AutoscalingPolicy], dict[str, Renting]]:
        """Of a deployment that placement parts among clusters which have these together. Raises WorldError."""
        found, rentings = self.of(pools)
        if any(renting != Renting() for renting in rentings.values()):
            raise WorldError("procurement: placement says from which pools; leave it away, or placement")
        return found, dict.fromkeys(found, Renting(kind="placed"))

    def nowhere(self) -> tuple[dict[str, AutoscalingPolicy], dict[str, Renting]]:
        """Of a cluster where nothing may run."""
        shared = Fields({}, self.shared.where).over(self.shared)
        names = ("predictive", "kpa", *(name for name, _ in shared.named("policies")))
        return dict.fromkeys(names, _NOTHING), dict.fromkeys(names, Renting())


def choices_of(world: ServingWorld, name: str) -> tuple[Choice, ...]:
    """What a name on the command line asks for, of each of the world's clusters. Raises WorldError.

    Where placement bounds them: of all together, the same for each.
    """
    if world.placement is not None:
        return (_choice_of(world, name),) * len(world.clusters)
    return tuple(_choice_of(cluster, name) for _, cluster in world.clusters)


def _choice_of(world: ServingWorld, name: str) -> Choice:
    if name.startswith(STATIC):
        count = name.removeprefix(STATIC)
        room = sum(pool.replicas for pool in world.pools)
        if not count.isdecimal() or len(count) > 9 or (room and not 0 < int(count) <= room):
            raise WorldError(f"policy {name!r}: give {STATIC}N, N replicas from 1 to the pools' {room}")
        of = min(int(count), room)
        fixed = replace(world.policies["kpa"], min_replicas=of, max_replicas=of)
        return Choice(fixed, world.rentings["kpa"])
    if name not in world.policies:
        raise WorldError(f"policy {name!r}: there are {', '.join([*world.policies, STATIC + 'N'])}")
    return Choice(world.policies[name], world.rentings[name])


def _policy(fields: Fields, seats: int, room: int, base: AutoscalingPolicy | None) -> AutoscalingPolicy:
    """The five factors; those that are not given as in ``base``."""

    def of(name: str, default: float) -> float:
        return float(getattr(base, name)) if base is not None else default

    values: dict[str, Any] = {
        "min_replicas": fields.whole("min_replicas", int(of("min_replicas", 1)), most=room),
        "max_replicas": fields.whole("max_replicas", int(of("max_replicas", room)), least=1, most=room),
        "autoscaling_window_s": fields.number(
            "autoscaling_window_s", of("autoscaling_window_s", 60.0), above=True
        ),
        "scale_down_delay_s": fields.number("scale_down_delay_s", of("scale_down_delay_s", 900.0)),
        "concurrency_target": fields.number(
            "concurrency_target", of("concurrency_target", seats), above=True, most=10_000.0
        ),
        "target_utilisation": fields.number(
            "target_utilisation", of("target_utilisation", 1.0), above=True, most=10.0
        ),
    }
    values["kind"] = fields.choice("kind", KINDS, "predictive" if base is None else base.kind)
    if base is not None:
        values["slo_attainment"] = base.slo_attainment
    fields.done()
    try:
        return AutoscalingPolicy(**values)
    except ValueError as error:
        raise WorldError(f"{fields.where}: {error}") from None
