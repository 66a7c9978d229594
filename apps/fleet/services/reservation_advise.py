"""How many instances are worth reserving, by what was in use and what is rented instead. Writes nothing."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from apps.api.actors import Actor
from apps.fleet import selectors
from apps.fleet.models import GpuPool, Procurement
from controlplane.procurement import (
    Alternative,
    BlendPolicy,
    DemandSample,
    ReservedPlan,
    outlook,
    plan_cost,
    reserve,
)
from controlplane.procurement.learning import HeldSpan, instances_by_h
from workloadplane.words import counted

#: Demand further back is not looked at, and less than a day tells nothing of a rhythm.
LOOKED_BACK_H, KNOWN_LEAST_H = 8 * 168, 24
TERM_DAYS = 365


@dataclass(frozen=True, kw_only=True)
class Advice:
    """One type of instance in one region: what was in use, and how many of them are worth reserving.

    known_h:     hours of demand that are known; the figures of demand are of these, in instances
    reserved:    instances that are reserved now
    price:       of a reserved instance, micro-USD/h: as asked, or of the newest reservation; None: not known
    alternative: what is rented instead; None: nothing has a price
    plan:        None where it cannot be said; ``reasons`` say why, or what the number rests on
    """

    region: str
    instance_type: str
    known_h: int
    instances_mean: float
    instances_p95: float
    instances_most: float
    reserved: int
    price: int | None
    alternative: Alternative | None
    plan: ReservedPlan | None
    micro_usd_per_h_now: int | None
    reasons: tuple[str, ...]


@dataclass
class _Place:
    """The pools of one type in one region."""

    pools: list[GpuPool] = field(default_factory=list)
    reserved: int = 0
    price: int | None = None
    spans: list[HeldSpan] = field(default_factory=list)


def reservation_advise(
    *,
    actor: Actor,
    now: datetime,
    region: str | None = None,
    instance_type: str | None = None,
    price_micro_usd_per_h: int | None = None,
    term_days: int = TERM_DAYS,
) -> list[Advice]:
    """For each type of instance in each region, by name. ``price_micro_usd_per_h``: of a reserved instance, offered."""
    places: dict[tuple[str, str], _Place] = defaultdict(_Place)
    for pool in selectors.pools(actor=actor, now=now):
        key = (pool.cluster.region.name, pool.instance_type.name)
        if region in (None, key[0]) and instance_type in (None, key[1]):
            places[key].pools.append(pool)
    place_of = {pool.pk: place for place in places.values() for pool in place.pools}
    _reservations_read(actor, place_of, now)
    _spans_read(place_of, now)
    return [
        _advice(key, places[key], price_micro_usd_per_h, now, term_h=24.0 * term_days)
        for key in sorted(places)
    ]


def _reservations_read(actor: Actor, place_of: Mapping[UUID, _Place], now: datetime) -> None:
    """How many are in force, and what the newest costs."""
    for row in selectors.reservations(actor=actor).order_by("starts_at", "pk"):
        place = place_of.get(row.pool_id)
        if place is None:
            continue
        place.price = row.instance_micro_usd_per_h
        if row.starts_at <= now < row.ends_at:
            place.reserved += row.instances


def _spans_read(place_of: Mapping[UUID, _Place], now: datetime) -> None:
    from apps.agents import selectors as agents

    gpus = {pool.pk: pool.instance_type.gpus for place in place_of.values() for pool in place.pools}
    since = now - timedelta(hours=LOOKED_BACK_H)
    for row in agents.gpus_spans(pool_ids=list(place_of), since=since):
        place_of[row.pool_id].spans.append(
            HeldSpan(
                pool_id=str(row.pool_id),
                since_s=row.started_at.timestamp(),
                until_s=None if row.ended_at is None else row.ended_at.timestamp(),
                instances=row.gpus / gpus[row.pool_id],
            )
        )


def _advice(
    key: tuple[str, str], place: _Place, offered: int | None, now: datetime, *, term_h: float
) -> Advice:
    hours = _hours(place.spans, now)
    price = offered if offered is not None else place.price
    alternative = _alternative(place.pools)
    reasons = [*_missing(hours, price, alternative)]
    plan, cost_now = None, None
    if not reasons and price is not None and alternative is not None:
        demand = outlook(hours, term_h=term_h)
        plan = reserve(demand, alternative, reserved_micro_usd_per_h=price)
        cost_now = round(plan_cost(demand, alternative, place.reserved, reserved_micro_usd_per_h=price))
        reasons = _reasons(demand, alternative, plan, len(hours))
    ordered = sorted(hours)
    return Advice(
        region=key[0],
        instance_type=key[1],
        known_h=len(hours),
        instances_mean=sum(hours) / len(hours) if hours else 0.0,
        instances_p95=ordered[int(0.95 * (len(ordered) - 1))] if ordered else 0.0,
        instances_most=ordered[-1] if ordered else 0.0,
        reserved=place.reserved,
        price=price,
        alternative=alternative,
        plan=plan,
        micro_usd_per_h_now=cost_now,
        reasons=tuple(reasons),
    )


def _hours(spans: Sequence[HeldSpan], now: datetime) -> tuple[float, ...]:
    """Whole hours since the first use that is looked at."""
    if not spans:
        return ()
    known_h = int((now.timestamp() - min(span.since_s for span in spans)) // 3600)
    hours = max(0, min(LOOKED_BACK_H, known_h))
    return instances_by_h(spans, since_s=now.timestamp() - hours * 3600, hours=hours)


def _alternative(pools: Iterable[GpuPool]) -> Alternative | None:
    """On demand, and spot with what its losses cost, where they have a price; their capacity is what there is."""
    policy = BlendPolicy()
    on_demand, spot = [], []
    for pool in pools:
        price = getattr(pool, "micro_usd_per_h", None)
        if price is None or not pool.schedulable:
            continue
        if pool.procurement == Procurement.ON_DEMAND:
            on_demand.append(float(price))
        elif pool.procurement == Procurement.SPOT and pool.capacity_instances:
            risky = price * (1 + pool.hazard_believed_per_h * policy.interruption_h)
            spot.append((risky, pool.capacity_instances, pool.obtainability_believed))
    if not on_demand and not spot:
        return None
    instances = sum(count for _, count, _ in spot)
    return Alternative(
        on_demand_micro_usd_per_h=min(on_demand, default=None),
        spot_micro_usd_per_h=sum(price * count for price, count, _ in spot) / instances if spot else None,
        spot_instances=float(instances),
        spot_share=sum(share * count for _, count, share in spot) / instances if spot else 1.0,
    )


def _missing(hours: Sequence[float], price: int | None, alternative: Alternative | None) -> Iterable[str]:
    if len(hours) < KNOWN_LEAST_H:
        yield f"{counted(len(hours), 'hour')} of demand known; {KNOWN_LEAST_H} are needed"
    if alternative is None:
        yield "nothing is rented instead that has a price; give an on-demand or spot pool here its price"
    if price is None:
        yield "no price of a reserved instance is known; give price_usd_per_h"


def _reasons(
    demand: Sequence[DemandSample], alternative: Alternative, plan: ReservedPlan, known_h: int
) -> list[str]:
    used = f"the next one would be in use {plan.next_use_share:.0%} of the time and save"
    found = [
        f"{used} {plan.next_saving_micro_usd_per_h / 1e6:.3f} USD/h",
        f"by {counted(known_h, 'hour')} of demand,"
        f" of which {max(s.instances for s in demand):.3g} are the most to expect",
    ]
    if alternative.spot_instances:
        found.append(
            f"{alternative.spot_instances:.0f} of spot serve what comes first, for"
            f" {alternative.mixed_micro_usd_per_h / 1e6:.3f} USD/h with their losses and what they lack"
        )
    return found
