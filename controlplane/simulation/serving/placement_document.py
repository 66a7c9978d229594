"""What a world's document says of its control plane, and what is wrong with that."""

from collections.abc import Sequence
from math import inf

from controlplane.placement import Posture, Survivability
from controlplane.placement.search.improve import Effort
from controlplane.simulation.serving.fields import Fields, WorldError
from controlplane.simulation.serving.geography import Region
from controlplane.simulation.serving.placement_world import (
    COMMAND_S,
    Allowed,
    Away,
    Emptied,
    Placement,
    Search,
)
from workloadplane.words import counted

_SURVIVABILITIES: tuple[Survivability, ...] = ("none", "zone", "region")
_POSTURES: tuple[Posture, ...] = ("active_active", "active_passive")
#: A GPU costs no more, as placement has it.
USD_PER_GPU_H_MAX = 1000.0
#: And a project may spend no more, likewise.
USD_PER_H_MAX = 1e9
#: The control plane looks no oftener.
SEARCH_LEAST_S = 5.0


def placement_of(
    fields: Fields, regions: Sequence[Region], origins: Sequence[str], *, gpus_per_replica: int
) -> Placement | None:
    """The field ``placement``, which may be left away. Raises WorldError."""
    if "placement" not in fields:
        return None
    if len(regions) < 2:
        raise WorldError("placement: it places among several clusters; give regions, or leave it away")
    one = fields.child("placement")
    survivability = _SURVIVABILITIES[
        _SURVIVABILITIES.index(one.choice("survivability", _SURVIVABILITIES, "none"))
    ]
    found = Placement(
        survivability=survivability,
        stated=_stated(one, origins),
        command_s=one.number("command_s", COMMAND_S, most=300.0),
        emptied=_emptied(one, regions) if "emptied" in one else (),
        budgets=_budgets(one) if "budget_usd_per_h" in one else (),
        search=_search(one.child("search", needed=False)),
    )
    one.done()
    for region in regions:
        for pool in region.pools:
            if pool.usd_per_replica_h > USD_PER_GPU_H_MAX * gpus_per_replica:
                raise WorldError(
                    f"pool {region.name}/{pool.name}: usd_per_replica_h {pool.usd_per_replica_h:g} for "
                    f"{counted(gpus_per_replica, 'GPU')}: placement takes {USD_PER_GPU_H_MAX:,.0f} USD/h a GPU at "
                    "most; give less, or more failures.gpus_per_replica"
                )
    return found


def posture_of(fields: Fields, regions: Sequence[Region]) -> Posture:
    """The field ``posture``. Raises WorldError."""
    found = _POSTURES[_POSTURES.index(fields.choice("posture", _POSTURES, "active_active"))]
    if found == "active_passive" and sum(bool(region.pools) for region in regions) < 2:
        raise fields.wrong(
            "posture", found, "give two regions with pools, or leave it away: nobody would stand by"
        )
    return found


def away_of(failures: Fields, *, is_needed: bool) -> tuple[Away, ...]:
    """``failures.plane_lost``. ``is_needed``: something in this world depends on a control plane. Raises WorldError."""
    if "plane_lost" not in failures:
        return ()
    found: list[Away] = []
    for each in failures.children("plane_lost"):
        if not is_needed:
            raise WorldError(
                f"{each.where}: this world has no control plane; give placement, or leave it away"
            )
        at_s = each.number("at_s")
        back_s = each.number("back_s") if "back_s" in each else inf
        if back_s <= at_s:
            raise each.wrong(
                "back_s", back_s, f"give more than at_s {at_s:g}, or leave it away: it stays away"
            )
        if found and at_s < found[-1].back_s:
            raise each.wrong("at_s", at_s, "it is away then already; give rising times")
        found.append(Away(at_s, back_s))
        each.done()
    return tuple(found)


def _stated(fields: Fields, origins: Sequence[str]) -> dict[str, float]:
    demand = fields.child("demand", needed=False)
    found: dict[str, float] = {}
    for name in demand.names():
        if name not in origins:
            raise WorldError(
                f"{demand.where}.{name}: nobody is there; give regions, or origins of arrivals: {', '.join(origins)}"
            )
        found[name] = demand.number(name, most=1e6)
    return found


def _emptied(fields: Fields, regions: Sequence[Region]) -> tuple[Emptied, ...]:
    found = []
    for each in fields.children("emptied"):
        name = each.choice("region", [region.name for region in regions])
        pools = next([pool.name for pool in region.pools] for region in regions if region.name == name)
        found.append(Emptied(name, each.choice("pool", pools), each.number("at_s")))
        each.done()
    return tuple(found)


def _budgets(fields: Fields) -> tuple[Allowed, ...]:
    """A number, or a list of what holds from when on."""
    if not fields.is_list("budget_usd_per_h"):
        return (Allowed(0.0, fields.number("budget_usd_per_h", most=USD_PER_H_MAX)),)
    found: list[Allowed] = []
    for each in fields.children("budget_usd_per_h"):
        at_s = each.number("at_s")
        if found and at_s <= found[-1].at_s:
            raise each.wrong("at_s", at_s, f"give rising times, above {found[-1].at_s:g}")
        found.append(Allowed(at_s, each.number("usd_per_h", most=USD_PER_H_MAX)))
        each.done()
    return tuple(found)


def _search(fields: Fields) -> Search:
    usual = Search()
    found = Search(
        every_s=fields.number("every_s", usual.every_s, most=1e6),
        effort=Effort(
            rounds=fields.whole("rounds", usual.effort.rounds, least=1, most=1000),
            nodes=fields.whole("nodes", usual.effort.nodes, least=1, most=100_000),
        ),
    )
    if 0 < found.every_s < SEARCH_LEAST_S:
        raise fields.wrong(
            "every_s", found.every_s, f"give {SEARCH_LEAST_S:g} s or more, or 0: it never searches"
        )
    fields.done()
    return found
