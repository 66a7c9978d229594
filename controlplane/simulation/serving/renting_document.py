"""What a world's document says of capacity: its pools, and how they are rented."""

from collections.abc import Sequence

from controlplane.procurement import BlendPolicy
from controlplane.simulation.serving.fields import Fields, WorldError
from controlplane.simulation.serving.pools import PROCUREMENTS, ServingPool
from controlplane.simulation.serving.renting import Renting

KINDS = ("in_order", "blend")


def pools_of(fields: Fields) -> tuple[ServingPool, ...]:
    """All of them, each with a name of its own. Raises WorldError."""
    pools = tuple(_pool(each) for each in fields.children("pools"))
    if len({pool.name for pool in pools}) < len(pools):
        raise WorldError("pools: two have the same name: call each by its own")
    return pools


def renting_of(fields: Fields, pools: Sequence[ServingPool], base: Renting) -> Renting:
    """The field ``procurement``; ``base`` where there is none. Raises WorldError."""
    if "procurement" not in fields:
        return base
    one = fields.child("procurement")
    if one.choice("kind", KINDS) == "in_order":
        one.done()
        return Renting()
    usual = BlendPolicy()
    policy = BlendPolicy(
        floor=one.whole("floor", usual.floor, most=100_000),
        extra_most=one.whole("extra_most", usual.extra_most, most=1000),
        short_worth=one.number("short_worth", usual.short_worth, most=1e6),
        hold_s=one.number("hold_s", usual.hold_s, most=86_400.0),
        extra_hold_s=one.number("extra_hold_s", usual.extra_hold_s, most=86_400.0),
    )
    one.done()
    _one_price_each(pools)
    return Renting(kind="blend", blend=policy)


def _one_price_each(pools: Sequence[ServingPool]) -> None:
    """The blend knows one spot price and one on demand in each market."""
    seen: dict[tuple[str, str], str] = {}
    for pool in pools:
        other = seen.setdefault((pool.market_id, pool.procurement), pool.name)
        if other != pool.name and pool.procurement != "reserved":
            raise WorldError(
                f"pools: {other!r} and {pool.name!r} are both {pool.procurement} of {pool.market_id}, and the blend "
                "knows one of each: give one another zone or instance_type"
            )


def _pool(fields: Fields) -> ServingPool:
    pool = ServingPool(
        name=fields.text("name"),
        procurement=fields.choice("procurement", PROCUREMENTS),
        replicas=fields.whole("replicas", least=1, most=100_000),
        usd_per_replica_h=fields.number("usd_per_replica_h", most=1e6),
        zone=fields.text("zone", "a"),
        hazard_per_h=fields.number("hazard_per_h", 0.0, most=60.0),
        stock_outs_per_day=fields.number("stock_outs_per_day", 0.0, most=1000.0),
        stock_out_s=fields.number("stock_out_s", 1800.0, above=True, most=86_400.0),
        instance_type=fields.text("instance_type", "gpu"),
        spot_trace=fields.text("spot_trace") if "spot_trace" in fields else None,
    )
    if pool.spot_trace is not None:
        if pool.procurement != "spot":
            raise fields.wrong("spot_trace", pool.spot_trace, "give it to pools whose procurement is spot")
        if pool.hazard_per_h or pool.stock_outs_per_day:
            raise fields.wrong(
                "spot_trace",
                pool.spot_trace,
                "it says what is taken back; leave hazard_per_h and stock_outs away",
            )
    fields.done()
    return pool
