"""The same search for every policy: all its variants, a search of the utilisation for each, on days of their own."""

import math
from dataclasses import dataclass, replace

import numpy as np

from controlplane.simulation.serving import Figures, FluidOutcome, LoadSeries, play
from tests.benchmarks.scaling.policies import Contender, Make, Static, Twice

WAIT_SLO_S = 5.0
DECIDE_EVERY_S = 10.0
GOAL = 0.999
#: Runs for each variant, and between which utilisations: who wants nearly all requests in time plans for no more work
#: than there is room for.
RUNS = 5
UTILISATIONS = (0.1, 1.0)
#: No fewer late requests are told apart: one in a million.
LEAST_LATE = 1e-6

HOUR_S = 3600.0

#: Times from the beginning of a series: begin and end, in seconds; in order.
Spans = tuple[tuple[float, float], ...]


@dataclass
class World:
    """A series, a cold start, and the hours to tune on, day by day, and to be judged by."""

    series: LoadSeries
    cold_start_s: float
    tuned_on: tuple[Spans, ...]
    judged_on: Spans
    first_replicas: int | None = None

    def run(self, make: Make, *, end_s: float | None = None, **changes: object) -> FluidOutcome:
        """The series up to ``end_s`` against a scaler that begins with what the first ten minutes need, or is told."""
        series = self.series if end_s is None else self.series.between(0.0, end_s)
        bins = max(1, round(600.0 / series.bin_s))
        first = self.first_replicas or max(
            1, math.ceil(float(series.work_s[:bins].mean()) / series.bin_s * 1.3)
        )
        arguments: dict[str, object] = {
            "cold_start_s": self.cold_start_s,
            "wait_slo_s": WAIT_SLO_S,
            "decide_every_s": DECIDE_EVERY_S,
            "first_replicas": first,
            **changes,
        }
        return play(series, make(first), **arguments)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Tuned:
    """The cheapest that kept the SLO on each of the days it was tuned on; else the one that kept it best.

    worst: the share inside the SLO on the worst of these days
    """

    variant: str
    utilisation: float
    make: Make
    figures: Figures
    worst: float
    runs: int


def tune(
    contender: Contender,
    world: World,
    *,
    runs: int = RUNS,
    utilisations: tuple[float, float] = UTILISATIONS,
    goal: float = GOAL,
) -> Tuned:
    """Search: for each variant the highest utilisation that keeps the goal, of those found the cheapest.

    Each day is to keep it by itself: the days that are judged may all be like the worst of them.
    """
    end_s = world.tuned_on[-1][-1][1]
    tuned_on = tuple(span for day in world.tuned_on for span in day)
    found: list[Tuned] = []
    for variant in contender.variants:
        low, high = (utilisations[0], _excess(1.0, goal)), (utilisations[1], 1.0)
        for _ in range(runs):
            utilisation = _between(low, high)
            make = variant.make(utilisation)
            outcome = world.run(make, end_s=end_s)
            worst = min(outcome.figures(*day).within_slo for day in world.tuned_on)
            found.append(Tuned(variant.name, utilisation, make, outcome.figures(*tuned_on), worst, 0))
            point = (utilisation, _excess(worst, goal))
            low, high = (point, high) if point[1] <= 0 else (low, point)
    keeping = [tuned for tuned in found if tuned.worst >= goal]
    best = (
        min(keeping, key=lambda tuned: tuned.figures.replica_hours)
        if keeping
        else max(found, key=lambda tuned: tuned.worst)
    )
    return replace(best, runs=len(found))


def keepable(world: World) -> World:
    """Without the hours to tune on in which even ``Twice`` loses requests.

    A jump that nobody keeps is no reason to pay for it on all other days.
    """
    outcome = world.run(Twice, end_s=world.tuned_on[-1][-1][1])
    return replace(world, tuned_on=tuple(_kept(outcome, day) for day in world.tuned_on))


def _kept(outcome: FluidOutcome, day: Spans) -> Spans:
    hours = [
        (at, min(at + HOUR_S, end)) for begin, end in day for at in np.arange(begin, end, HOUR_S).tolist()
    ]
    return tuple(hour for hour in hours if outcome.figures(hour).within_slo == 1.0)


def _excess(within_slo: float, goal: float) -> float:
    """How much more than allowed is late, in powers of ten; 0 is just kept."""
    return math.log10(max(1.0 - within_slo, LEAST_LATE) / (1.0 - goal))


def _between(low: tuple[float, float], high: tuple[float, float]) -> float:
    """Where the excess is 0 on the line between two (utilisation, excess), well inside of them."""
    share = -low[1] / (high[1] - low[1]) if high[1] > low[1] else 0.5
    return low[0] + min(max(share, 0.2), 0.8) * (high[0] - low[0])


def best_static(world: World) -> tuple[int, Figures]:
    """The fewest replicas that keep the SLO on the days that are judged: known only afterwards."""
    series = world.series
    low, high = 1, 2 * math.ceil(float(series.work_s.max()) / series.bin_s) + 1
    best = _static(world, high)
    while low < high:
        middle = (low + high) // 2
        figures = _static(world, middle)
        if figures.within_slo >= GOAL:
            high, best = middle, figures
        else:
            low = middle + 1
    return high, best


def _static(world: World, replicas: int) -> Figures:
    return play(
        world.series,
        Static(replicas),
        cold_start_s=0.0,
        wait_slo_s=WAIT_SLO_S,
        decide_every_s=world.series.seconds,
        first_replicas=replicas,
    ).figures(*world.judged_on)
