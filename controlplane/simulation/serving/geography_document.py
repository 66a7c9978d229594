"""Regions in a world's document: how far apart they are, which are lost, and what is wrong with that."""

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import Literal

from controlplane.simulation.serving.fields import Fields, WorldError
from controlplane.simulation.serving.geography import Geography, Outage, Region, RoundTrips
from controlplane.simulation.serving.policies_document import Scaling
from controlplane.simulation.serving.renting_document import pools_of

#: Each gateway asks each other one twice a second.
REGIONS_MAX = 16
#: No network takes longer.
ROUND_TRIP_S_MAX = 10.0
#: Whoever is back sooner was not gone: nobody would have found it.
OUTAGE_S_MIN = 10.0
_KINDS: tuple[Literal["lost"], Literal["frozen"]] = ("lost", "frozen")


def geography_of(
    fields: Fields, failures: Fields, scaling: Scaling, origins: Sequence[str | None]
) -> Geography:
    """What the document says of regions; ``origins``: where its arrivals say that clients are. Raises WorldError."""
    edge = fields.child("edge", needed=False)
    detect_s = edge.number("detect_s", 2.0, most=300.0)
    edge.done()
    residency = frozenset(fields.texts("residency"))
    is_placed = "placement" in fields
    regions = _regions(fields, scaling, residency, is_placed=is_placed) if "regions" in fields else ()
    names = tuple(region.name for region in regions) or ("",)
    places = tuple(dict.fromkeys((*names, *(origin for origin in origins if origin is not None))))
    if None in origins and regions and not sum(region.share for region in regions):
        raise WorldError("regions: all have share 0: give one of them more, or all arrivals an origin")
    return Geography(
        regions=regions,
        origins=places,
        round_trips=_round_trips(fields, names, places),
        residency=residency,
        detect_s=detect_s,
        outages=_outages(failures, names, detect_s) if failures.is_list("regions_lost") else (),
    )


def _regions(
    fields: Fields, scaling: Scaling, residency: frozenset[str], *, is_placed: bool
) -> tuple[Region, ...]:
    """``is_placed``: placement bounds them, within what the world says of all together."""
    found: list[Region] = []
    for each in fields.children("regions"):
        name = each.text("name")
        if name in {region.name for region in found}:
            raise each.wrong("name", name, "two regions have it: call each by its own")
        jurisdiction = each.text("jurisdiction") if residency or "jurisdiction" in each else ""
        is_inside = not residency or jurisdiction in residency
        if not is_inside and "pools" in each:
            raise WorldError(
                f"{each.where}.pools: {name} is in {jurisdiction}, outside of the residency "
                f"{', '.join(sorted(residency))}: leave them away, nothing may run there"
            )
        pools = pools_of(each) if is_inside else ()
        for field in ("autoscaling", "procurement") if is_placed else ():
            if field in each:
                raise WorldError(
                    f"{each.where}.{field}: placement says what runs where; leave it away, or placement"
                )
        is_alone = is_inside and not is_placed
        policies, rentings = scaling.of(pools, each) if is_alone else scaling.nowhere()
        found.append(
            Region(
                name=name,
                jurisdiction=jurisdiction,
                share=each.number("share", 1.0, most=1e6),
                pools=pools,
                policies=policies,
                rentings=rentings,
            )
        )
        each.done()
    if len(found) > REGIONS_MAX:
        raise WorldError(f"regions: there are {len(found)}: give {REGIONS_MAX} at most")
    if not any(region.pools for region in found):
        raise WorldError(
            f"residency {', '.join(sorted(residency))}: no region is there; give one of: "
            f"{', '.join(sorted({region.jurisdiction for region in found}))}"
        )
    if is_placed:
        policies, rentings = scaling.placed([pool for region in found for pool in region.pools])
        return tuple(replace(region, policies=policies, rentings=rentings) for region in found)
    return tuple(found)


def _round_trips(fields: Fields, regions: Sequence[str], origins: Sequence[str]) -> RoundTrips:
    """Between all regions, and from each place that clients are at to all regions."""
    places = [*regions, *(name for name in origins if name not in regions)]
    found: dict[frozenset[str], tuple[float, str]] = {}
    for one, others in fields.named("round_trip_s"):
        for other in others.names():
            for name in (one, other):
                if name not in places:
                    raise WorldError(
                        f"{others.where}.{other} names {name!r}: give regions, or origins of arrivals: "
                        f"{', '.join(places)}"
                    )
            seconds = others.number(other, most=ROUND_TRIP_S_MAX)
            pair, where = frozenset((one, other)), f"{others.where}.{other}"
            if pair in found:
                raise WorldError(
                    f"{where} {seconds:g}: {found[pair][1]} says it already; give each pair once"
                )
            found[pair] = seconds, where
        others.done()
    for number, one in enumerate(places):
        for other in regions:
            is_before = other in places[: number + 1]
            if one != other and (one not in regions or is_before) and frozenset((one, other)) not in found:
                pair_name = f"{other}.{one}" if is_before and one in regions else f"{one}.{other}"
                raise WorldError(
                    f"round_trip_s.{pair_name} is missing: give the seconds from one to the other and back"
                )
    return RoundTrips({pair: seconds for pair, (seconds, _) in found.items()})


def _outages(fields: Fields, regions: Sequence[str], detect_s: float) -> tuple[Outage, ...]:
    found: list[Outage] = []
    for each in fields.children("regions_lost"):
        outage = Outage(
            region=each.choice("region", regions, regions[0] if len(regions) == 1 else None),
            at_s=each.number("at_s"),
            back_s=each.number("back_s") if "back_s" in each else inf,
            kind=_KINDS[_KINDS.index(each.choice("kind", _KINDS, "lost"))],
        )
        least_s = outage.at_s + max(OUTAGE_S_MIN, detect_s)
        if outage.back_s < least_s:
            raise each.wrong(
                "back_s", outage.back_s, f"give {least_s:g} or more, or leave it away: it does not come back"
            )
        if outage.kind == "frozen" and len(regions) == 1:
            raise each.wrong("kind", outage.kind, "give lost: of a world's only region nobody would notice")
        for other in found:
            if other.region == outage.region and other.at_s < outage.back_s and outage.at_s < other.back_s:
                raise each.wrong(
                    "at_s", outage.at_s, f"{outage.region} is away then already; give another time"
                )
        each.done()
        found.append(outage)
    return tuple(found)
