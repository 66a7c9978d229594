"""How many instances to reserve: the newsvendor's question, against what is truly to be had instead.

A reserved instance costs its price used or not. What is not reserved is rented: from spot as far as there is some, on
demand for the rest. So the next reserved instance saves, whenever the demand reaches it, the price of whatever serves
the outermost instance then: that of spot while all rented ones fit there, that of on demand beyond. It is worth
reserving while that saving, on average over the term, is not less than its price. Against on demand's list price alone
too many would be reserved: where spot serves the peaks, peaks are cheap.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from workloadplane.words import counted

#: More instances of one type in one region are not looked at.
MOST_INSTANCES = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """What an instance costs for an hour that is not reserved.

    on_demand_micro_usd_per_h: None: it is not rented on demand
    spot_micro_usd_per_h:      with what its losses cost; None: there is no spot
    spot_instances:            so many spot instances are to be had at most ...
    spot_share:                ... for this share of the time; on demand takes their place for the rest
    """

    on_demand_micro_usd_per_h: float | None
    spot_micro_usd_per_h: float | None = None
    spot_instances: float = 0.0
    spot_share: float = 1.0

    def __post_init__(self) -> None:
        if self.on_demand_micro_usd_per_h is None and self.spot_micro_usd_per_h is None:
            raise ValueError("nothing is rented instead; give a price of on demand or of spot")
        if not (0 <= self.spot_share <= 1 and self.spot_instances >= 0):
            raise ValueError(
                f"spot_instances {self.spot_instances}, spot_share {self.spot_share};"
                " give 0 instances or more, and a share from 0 to 1"
            )

    @property
    def beyond_micro_usd_per_h(self) -> float:
        """What an instance costs beyond what spot has: on demand, or spot's price where there is no on demand."""
        on_demand = self.on_demand_micro_usd_per_h
        return on_demand if on_demand is not None else float(self.spot_micro_usd_per_h or 0)

    @property
    def mixed_micro_usd_per_h(self) -> float:
        """What an instance costs that spot has, for the share of the time for which it has it."""
        spot, beyond = self.spot_micro_usd_per_h, self.beyond_micro_usd_per_h
        if spot is None or spot >= beyond:
            return beyond
        return self.spot_share * spot + (1 - self.spot_share) * beyond

    def micro_usd_per_h(self, instances: float) -> float:
        """What so many cost."""
        cheap = min(instances, self.spot_instances)
        return cheap * self.mixed_micro_usd_per_h + (instances - cheap) * self.beyond_micro_usd_per_h


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandSample:
    """So many instances are in use, with this weight among all samples (such as hours)."""

    instances: float
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not (0 <= self.instances < math.inf and 0 < self.weight < math.inf):
            raise ValueError(
                f"{counted(self.instances, 'instance')} with weight {self.weight}; give 0 or more, and a weight above 0"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservedPlan:
    """instances: to reserve. The next one would be used for ``next_use_share`` of the time, and would save
    ``next_saving_micro_usd_per_h`` for its price. cost, alternative cost: with them, and with none.
    """

    instances: int
    micro_usd_per_h: float
    unreserved_micro_usd_per_h: float
    next_use_share: float
    next_saving_micro_usd_per_h: float


def reserve(
    demand: Sequence[DemandSample], alternative: Alternative, *, reserved_micro_usd_per_h: float
) -> ReservedPlan:
    """The number of reserved instances at which the expected cost of an hour is least; the smallest of those.

    Raises ValueError where there is no sample, or the price is below 0.
    """
    if not demand:
        raise ValueError("no demand is known; give at least one sample")
    if not reserved_micro_usd_per_h >= 0:
        raise ValueError(f"a reserved instance at {reserved_micro_usd_per_h}; give a price of 0 or more")
    most = min(MOST_INSTANCES, math.ceil(max(sample.instances for sample in demand)))
    low, high = 0, most  # the saving of the next one falls with their number
    while low < high:
        middle = (low + high) // 2
        if _saving(demand, alternative, middle) > reserved_micro_usd_per_h:
            low = middle + 1
        else:
            high = middle
    return ReservedPlan(
        instances=low,
        micro_usd_per_h=plan_cost(
            demand, alternative, low, reserved_micro_usd_per_h=reserved_micro_usd_per_h
        ),
        unreserved_micro_usd_per_h=plan_cost(demand, alternative, 0, reserved_micro_usd_per_h=0.0),
        next_use_share=_mean(demand, [min(1.0, max(0.0, sample.instances - low)) for sample in demand]),
        next_saving_micro_usd_per_h=_saving(demand, alternative, low),
    )


def plan_cost(
    demand: Sequence[DemandSample],
    alternative: Alternative,
    reserved: int,
    *,
    reserved_micro_usd_per_h: float,
) -> float:
    """What an hour costs on average with so many reserved, in micro-USD."""
    rented = [alternative.micro_usd_per_h(max(0.0, sample.instances - reserved)) for sample in demand]
    return reserved * reserved_micro_usd_per_h + _mean(demand, rented)


def _saving(demand: Sequence[DemandSample], alternative: Alternative, reserved: int) -> float:
    """What one more than ``reserved`` saves in rent, per hour: the price of the outermost instance."""
    spot, beyond = alternative.spot_instances, alternative.beyond_micro_usd_per_h
    discount = beyond - alternative.mixed_micro_usd_per_h
    saved = []
    for sample in demand:
        over = sample.instances - reserved
        if over <= 0:
            saved.append(0.0)
            continue
        inner = over - 1 if over > 1 else 0.0
        saved.append((over - inner) * beyond - max(0.0, min(over, spot) - inner) * discount)
    return _mean(demand, saved)


def _mean(demand: Sequence[DemandSample], values: Sequence[float]) -> float:
    weights = [sample.weight for sample in demand]
    return sum(weight * value for weight, value in zip(weights, values, strict=True)) / sum(weights)
