"""How near the best fixed number of reserved instances the plan comes that knew only the past.

Four weeks of demand are known, the next four are paid for. Demand has a daily and a weekly rhythm, a trend that
changes, slow drift and bursts; hindsight is the best fixed number for the weeks paid for. A reserved instance costs
half to two thirds of on demand's price, spot a quarter to nearly half, for a part of the demand and most of the time.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from statistics import fmean

from controlplane.procurement import Alternative, DemandSample, outlook, plan_cost, reserve
from tests.benchmarks.goals import Goal, Row

KNOWN_H, TERM_H = 4 * 168, 4 * 168
REPORTED = range(1, 41)


@dataclass(frozen=True, slots=True)
class Case:
    """Hours known, hours paid for, and the prices."""

    known: tuple[float, ...]
    term: tuple[float, ...]
    alternative: Alternative
    price: float

    def cost(self, reserved: int) -> float:
        demand = [DemandSample(instances=instances) for instances in self.term]
        return plan_cost(demand, self.alternative, reserved, reserved_micro_usd_per_h=self.price)

    def hindsight(self) -> float:
        demand = [DemandSample(instances=instances) for instances in self.term]
        return reserve(demand, self.alternative, reserved_micro_usd_per_h=self.price).micro_usd_per_h


def case_made(seed: int) -> Case:
    rng = Random(f"reserved {seed}")
    level, day, week = rng.uniform(10, 80), rng.uniform(0.1, 0.6), rng.uniform(0.0, 0.3)
    growth = [rng.gauss(0.0, 0.02) for _ in range((KNOWN_H + TERM_H) // 168)]
    hours, drift, burst, log_level = [], 0.0, 0.0, math.log(level)
    for hour in range(KNOWN_H + TERM_H):
        log_level += growth[hour // 168] / 168
        drift = 0.995 * drift + rng.gauss(0, 0.01)
        burst = 0.7 * burst + (rng.uniform(0.2, 0.8) if rng.random() < 0.01 else 0.0)
        rhythm = 1 + day * math.sin(math.tau * (hour - 8) / 24) - (week if hour // 24 % 7 >= 5 else 0.0)
        hours.append(math.exp(log_level + drift) * max(0.05, rhythm) * (1 + burst) + 0.3 * rng.random())
    alternative = Alternative(
        on_demand_micro_usd_per_h=1e6,
        spot_micro_usd_per_h=rng.uniform(0.25, 0.45) * 1e6,
        spot_instances=round(level * rng.uniform(0.1, 0.6)),
        spot_share=rng.uniform(0.5, 0.95),
    )
    price = rng.uniform(0.5, 0.65) * 1e6
    return Case(tuple(hours[:KNOWN_H]), tuple(hours[KNOWN_H:]), alternative, price)


def _ours(case: Case) -> int:
    samples = outlook(case.known, term_h=TERM_H)
    return reserve(samples, case.alternative, reserved_micro_usd_per_h=case.price).instances


def _listed(case: Case) -> int:
    samples = outlook(case.known, term_h=TERM_H)
    listed = Alternative(on_demand_micro_usd_per_h=case.alternative.on_demand_micro_usd_per_h)
    return reserve(samples, listed, reserved_micro_usd_per_h=case.price).instances


CANDIDATES: dict[str, Callable[[Case], int]] = {
    "newsvendor, against what is to be had": _ours,
    "newsvendor, against on demand's list price": _listed,
    "the mean of the past": lambda case: round(fmean(case.known)),
    "the least of the past": lambda case: math.floor(min(case.known)),
    "the most of the past": lambda case: math.ceil(max(case.known)),
    "none": lambda case: 0,
}


def reserved_rows(*, quick: bool = False) -> list[Row]:
    """The row of reservations."""
    cases = [case_made(seed) for seed in list(REPORTED)[: 8 if quick else None]]
    best = [case.hindsight() for case in cases]
    row = Row(
        name="reserved",
        title=f"Reserved plan for four weeks from four weeks' demand, {len(cases)} demands",
        columns=("over_hindsight_pct", "over_hindsight_pct_worst"),
    )
    for name, choose in CANDIDATES.items():
        over = [100 * (case.cost(choose(case)) / least - 1) for case, least in zip(cases, best, strict=True)]
        row.figures[name] = {"over_hindsight_pct": fmean(over), "over_hindsight_pct_worst": max(over)}
    ours = row.figures["newsvendor, against what is to be had"]
    row.goals = [Goal("within 3 % of hindsight", ours["over_hindsight_pct"], 3.0)]
    return [row]
