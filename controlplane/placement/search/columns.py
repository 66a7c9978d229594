"""A column: one deployment's whole plan in whole replicas, with everything that it costs but rent and scarcity."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from controlplane.placement.rules.needs import TOLERANCE
from controlplane.placement.rules.traffic import transported
from controlplane.placement.search.batches import Prices
from controlplane.placement.search.offers import Bools, Floats, Ints, Offer, Offers
from controlplane.placement.wishes import Survivability


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Column:
    """``replicas`` by (position of the pool, standby). ``cost`` in micro-USD/h: all but the rent of its rooms.

    ``broken`` is what of the cost is wishes given up. ``level``, ``far`` and ``short`` say what it keeps of them; None:
    a deployment's entry in the plan that was begun from.
    ``gpus`` by position: what it fills; ``beyond``: the room that takes, beside what its own outgoing replicas leave.
    """

    number: int
    replicas: Mapping[tuple[int, bool], int]
    cost: float
    gpus: Mapping[int, float]
    beyond: Mapping[int, float]
    budgeted: float
    broken: float = 0.0
    level: Survivability | None = None
    far: bool = False
    short: bool = False

    @property
    def key(self) -> tuple[int, tuple[tuple[tuple[int, bool], int], ...]]:
        return round(self.cost), tuple(sorted(self.replicas.items()))


def paid(offers: Offers, one: Column, prices: Prices) -> float:
    """What a column costs at these prices, rent, scarcity and budgets included."""
    project = offers.project.get(offers.problem.deployments[one.number].project_id, -1)
    return float(
        one.cost
        + sum(prices.used[pool] * gpus for pool, gpus in one.gpus.items())
        + sum(prices.scarce[pool] * gpus for pool, gpus in one.beyond.items())
        + (prices.budget[project] * one.budgeted if project >= 0 else 0.0)
    )


def lawful(offer: Offer, replicas: Ints, standby: Bools | None = None) -> bool:
    """Whether a plan keeps everything that its offer promises (posture aside: whoever makes it sees to that)."""
    if replicas.sum() > offer.deployment.max_replicas or np.any(replicas > offer.limit):
        return False
    if offer.short:
        return bool(replicas.any())
    survives = offer.level != "none"
    counted = replicas * offer.survival if survives else replicas.astype(float)
    if standby is not None and offer.passive:
        parts = (counted * ~standby, counted * standby) if survives else (counted,)
        return all(_suffices(offer, part) for part in parts)
    return (
        all(_suffices(offer, np.where(lost, 0.0, counted)) for lost in offer.losses.values())
        if survives
        else _suffices(offer, counted)
    )


def _suffices(offer: Offer, counted: Floats) -> bool:
    return bool(
        np.dot(offer.share, counted) >= 1 - TOLERANCE / 2
        and counted.sum() >= offer.needs.replicas - TOLERANCE / 2
    )


def repaired(
    offer: Offer, replicas: Ints, unit: Floats, *, standby: Bools | None = None, cluster: Ints | None = None
) -> Ints | None:
    """The same with what it lacks added where that costs least, and what is idle taken away; None if that fails.

    ``unit``: about what a replica costs on each pool, rent and scarcity included. In ``active_passive`` what serves and
    what stands by stay in the ``cluster`` where they are.
    """
    counted = offer.survival if offer.level != "none" else np.ones_like(offer.survival)
    parts = np.stack([offer.share * counted, counted / offer.needs.replicas])
    if not offer.passive or standby is None or cluster is None:
        losses = np.array(list(offer.losses.values()) or [np.zeros(len(replicas), dtype=bool)])
        left = np.where(losses[:, None, :], 0.0, parts[None])
        found = _filled(left, np.minimum(replicas, offer.limit), offer.limit, unit)
    else:
        found = np.zeros_like(replicas)
        for mine in (~standby & (replicas > 0), standby):
            if not mine.any():
                continue
            here = np.isin(cluster, cluster[mine])
            filled = _filled(parts[None] * here, np.where(here, replicas, 0), offer.limit * here, unit)
            if filled is None:
                return None
            found = found + filled
    return found if found is not None and found.sum() <= offer.deployment.max_replicas else None


def _filled(left: Floats, replicas: Ints, limit: Ints, unit: Floats) -> Ints | None:
    """``left``: losses x needs x pools, what part of a need a replica gives after a loss."""
    enough = 1 - TOLERANCE / 2
    replicas = replicas.copy()
    for _ in range(400):
        lack = np.maximum(enough - left @ replicas, 0.0)
        if not lack.any():
            break
        gain = np.minimum(left, lack[:, :, None]).sum(axis=(0, 1))
        gain = np.where(replicas < limit, gain, 0.0)
        if not gain.any():
            return None
        best = int(np.argmax(gain / np.maximum(unit, 1.0)))
        short = np.where(left[:, :, best] > 0, lack / np.maximum(left[:, :, best], 1e-12), 0.0).max()
        replicas[best] += min(max(1, int(short // 2)), int(limit[best] - replicas[best]))
    else:
        return None
    spare = left @ replicas - enough
    for best in np.argsort(-unit, kind="stable"):
        most = left[:, :, best].max(initial=0.0)
        if unit[best] <= 0 or replicas[best] == 0 or most <= 0:
            continue
        gives = left[:, :, best]
        idle = int(
            min(replicas[best], np.floor(np.where(gives > 0, spare / np.maximum(gives, 1e-12), 1e9).min()))
        )
        if idle > 0:
            replicas[best] -= idle
            spare = spare - idle * gives
    return replicas


def column(offers: Offers, offer: Offer, replicas: Ints, standby: Bools | None = None) -> Column:
    """The column of a lawful plan."""
    aside = np.zeros(len(replicas), dtype=bool) if standby is None else standby
    new, stay = np.maximum(replicas - offer.held, 0), np.minimum(replicas, offer.held)
    broken = offer.penalty + (offer.missing * offer.missing_replicas(replicas) if offer.short else 0.0)
    cost = broken + offer.gone + float(np.dot(offer.refused, new) + np.dot(offer.leaving, offer.held - stay))
    cost += _traffic(offers, offer, np.where(aside, 0, replicas))
    used = np.flatnonzero(replicas)
    return Column(
        number=offer.number,
        replicas={(int(offer.pools[k]), bool(aside[k])): int(replicas[k]) for k in used},
        cost=cost,
        gpus={int(offer.pools[k]): float(replicas[k] * offer.gpus) for k in used},
        beyond={
            int(offer.pools[k]): float(max(0.0, replicas[k] - offer.freed[k]) * offer.room_gpus[k])
            for k in used
        },
        budgeted=float(np.dot(offer.promised, replicas)),
        broken=broken,
        level=offer.level,
        far=offer.far,
        short=offer.short,
    )


def lean(offers: Offers, offer: Offer, one: Column) -> Column:
    """The same without new replicas that keep nothing and save nothing, those of the dearest GPUs first.

    What a reservation pays for has no price, so no price keeps them out of a plan.
    """
    standby = np.array([(pool, True) in one.replicas for pool in offer.pools.tolist()], dtype=bool)
    replicas = np.array(
        [
            one.replicas.get((pool, bool(aside)), 0)
            for pool, aside in zip(offer.pools.tolist(), standby, strict=True)
        ],
        dtype=np.int64,
    )
    for k in np.argsort(-offers.pools.rent_micro_usd_per_gpu_h[offer.pools], kind="stable"):
        while replicas[k] > offer.held[k]:
            fewer = replicas.copy()
            fewer[k] -= 1
            if not lawful(offer, fewer, standby):
                break
            less = column(offers, offer, fewer, standby)
            if less.cost > one.cost:
                break
            replicas, one = fewer, less
    return one


def _traffic(offers: Offers, offer: Offer, serving: Ints) -> float:
    """Lateness and network, each cluster serving no more than it can."""
    used = np.flatnonzero(serving)
    if not len(offer.load) or not len(used):
        return 0.0
    clusters, at = np.unique(offers.pools.cluster[offer.pools[used]], return_inverse=True)
    room = np.bincount(at, weights=(offer.share * serving)[used] * offer.needs.served)
    first = np.array([used[np.flatnonzero(at == number)[0]] for number in range(len(clusters))])
    late = offer.late[:, first]
    if len(clusters) == 1:
        return float(late.sum())
    best = np.argmin(late, axis=1)
    if np.all(np.bincount(best, weights=offer.load, minlength=len(clusters)) <= room + TOLERANCE):
        return float(late[np.arange(len(best)), best].sum())
    total = room.sum()
    if total < 1:
        room = room / total if total > 0 else np.ones_like(room)
    flow = transported(offer.load.tolist(), room.tolist(), late.tolist())
    return float((np.array(flow) * late).sum())
