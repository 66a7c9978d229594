"""The same search for every policy: all its variants, a bisection of the utilisation for each, on days of their own."""

import math
from dataclasses import dataclass

from controlplane.simulation.serving import Figures, FluidOutcome, LoadSeries, play
from tests.benchmarks.scaling.policies import Contender, Make, Static

WAIT_SLO_S = 5.0
DECIDE_EVERY_S = 10.0
GOAL = 0.999
BISECTIONS = 5
UTILISATIONS = (0.2, 1.3)


#: Times from the beginning of a series: begin and end, in seconds; in order.
Spans = tuple[tuple[float, float], ...]


@dataclass
class World:
    """A series, a cold start, and the hours to tune on and to be judged by."""

    series: LoadSeries
    cold_start_s: float
    tuned_on: Spans
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
    """The cheapest that kept the SLO on the days it was tuned on; else the one that kept it best."""

    variant: str
    utilisation: float
    make: Make
    figures: Figures
    runs: int


def tune(
    contender: Contender,
    world: World,
    *,
    bisections: int = BISECTIONS,
    utilisations: tuple[float, float] = UTILISATIONS,
) -> Tuned:
    """Search: for each variant the highest utilisation that keeps the SLO, of those the cheapest."""
    end_s = world.tuned_on[-1][1]
    found: list[Tuned] = []
    for variant in contender.variants:
        low, high = utilisations
        for _ in range(bisections):
            middle = (low + high) / 2.0
            make = variant.make(middle)
            figures = world.run(make, end_s=end_s).figures(*world.tuned_on)
            found.append(Tuned(variant.name, middle, make, figures, 0))
            low, high = (middle, high) if figures.within_slo >= GOAL else (low, middle)
    keeping = [tuned for tuned in found if tuned.figures.within_slo >= GOAL]
    best = (
        min(keeping, key=lambda tuned: tuned.figures.replica_hours)
        if keeping
        else max(found, key=lambda tuned: tuned.figures.within_slo)
    )
    return Tuned(best.variant, best.utilisation, best.make, best.figures, len(found))


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
