"""The same search for every policy: all its variants, a bisection of the utilisation for each, on days of their own."""

import math
from dataclasses import dataclass

from controlplane.simulation.serving import Figures, FluidOutcome, LoadSeries, play
from tests.benchmarks.scaling.policies import Contender, Make, Static

WAIT_SLO_S = 5.0
DECIDE_EVERY_S = 10.0
GOAL = 0.999
BISECTIONS = 4
UTILISATIONS = (0.5, 1.2)


@dataclass
class World:
    """A series, a cold start, and the hours to tune on and to be judged by (seconds from the beginning)."""

    series: LoadSeries
    cold_start_s: float
    tuned_on: tuple[float, float]
    judged_on: tuple[float, float]
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
    begin_s, end_s = world.tuned_on
    found: list[Tuned] = []
    for variant in contender.variants:
        low, high = utilisations
        for _ in range(bisections):
            middle = (low + high) / 2.0
            make = variant.make(middle)
            figures = world.run(make, end_s=end_s).figures(begin_s, end_s)
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
    begin_s, end_s = world.judged_on
    part = world.series.between(begin_s, end_s)
    low, high = 1, 2 * math.ceil(float(part.work_s.max()) / part.bin_s) + 1
    best = _static(part, high)
    while low < high:
        middle = (low + high) // 2
        figures = _static(part, middle)
        if figures.within_slo >= GOAL:
            high, best = middle, figures
        else:
            low = middle + 1
    return high, best


def _static(part: LoadSeries, replicas: int) -> Figures:
    return play(
        part,
        Static(replicas),
        cold_start_s=0.0,
        wait_slo_s=WAIT_SLO_S,
        decide_every_s=part.seconds,
        first_replicas=replicas,
    ).figures()
