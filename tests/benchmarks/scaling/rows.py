"""The measures of scaling, with the goals that each is held against."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import structs

from controlplane.simulation.serving import Figures as Run
from controlplane.simulation.serving import LoadSeries
from controlplane.simulation.serving.clairvoyant import clairvoyant
from tests.benchmarks.goals import Figures, Goal, Row
from tests.benchmarks.scaling import blend, traces
from tests.benchmarks.scaling.disturbances import missing, noisy
from tests.benchmarks.scaling.kpa_cases import steps_that_differ
from tests.benchmarks.scaling.policies import (
    CONTENDERS,
    HPA,
    KPA,
    KPA_900,
    PREDICTIVE,
    Contender,
    Make,
    foreseeing,
    shifted,
)
from tests.benchmarks.scaling.timing import decide_row
from tests.benchmarks.scaling.tuning import (
    DECIDE_EVERY_S,
    GOAL,
    RUNS,
    Spans,
    World,
    best_static,
    keepable,
    tune,
)
from workloadplane.autoscaling import PredictiveTuning

MODELS = ("m-mid", "m-small")
COLD_STARTS_S = (60.0, 180.0, 480.0)
COLUMNS = ("replica_h_per_day", "within_pct", "launches_per_day", "of_clairvoyant")
HOUR_COLUMNS = ("replica_h", "within_pct", "launches")
BEST_STATIC = "best static"
#: As agents run it.
NOT_TUNED = "predictive, not tuned"
#: The same by who wants the goal on days that nobody has seen: half as much may be late.
MORE_ASKED, MORE = "predictive, not tuned, 99.95 % asked", 0.9995
SEED = 1
#: What is near enough to another policy's share inside the SLO where nobody can foresee the load.
NEARLY = 0.9
#: Windows of the load whose means somebody may know ahead.
FORESEEN_S = (600.0, 120.0)


@dataclass(frozen=True)
class Extent:
    """How much is measured. ``tuned``, ``judged``: days of the trace; ``bounded``: days that are bounded too."""

    data: Path
    quick: bool
    tuned: tuple[int, ...] = (2, 4, 6, 8, 10, 12)
    judged: tuple[int, ...] = (1, 3, 5, 7, 9, 11, 13)
    bounded: tuple[int, ...] = (3, 9, 13)
    models: tuple[str, ...] = MODELS
    cold_starts_s: tuple[float, ...] = COLD_STARTS_S
    runs: int = RUNS

    @classmethod
    def of(cls, data: Path, *, quick: bool) -> "Extent":
        if not quick:
            return cls(data, quick=False)
        return cls(
            data,
            quick=True,
            tuned=(9,),
            judged=(10, 11),
            bounded=(11,),
            models=("m-small",),
            cold_starts_s=(180.0,),
            runs=4,
        )

    def spans(self, days: tuple[int, ...]) -> Spans:
        """Where these days are in what is played: from the first that is tuned on or judged."""
        first = min(self.tuned + self.judged)
        return tuple(((day - first) * traces.DAY_S, (day - first + 1) * traces.DAY_S) for day in days)


def kpa_row(extent: Extent) -> list[Row]:
    """Knative's own cases."""
    path = extent.data / "misc" / "knative_kpa_cases.json"
    steps, differing = steps_that_differ(json.loads(path.read_text()))
    row = Row("kpa", "Knative's own cases", ("steps", "equal"))
    row.figures["kpa"] = {"steps": steps, "equal": steps - len(differing)}
    row.goals.append(Goal("steps exact of 48", steps - len(differing), 48, at_least=True))
    row.faults += differing
    return [row]


def world_of(extent: Extent, model: str, cold_start_s: float, *, steps: bool = False) -> World:
    series = traces.servegen(extent.data / "servegen", model, bin_s=5.0, seed=SEED, steps=steps)
    first, last = min(extent.tuned + extent.judged), max(extent.tuned + extent.judged)
    part = series.between(first * traces.DAY_S, (last + 1) * traces.DAY_S)
    days = tuple((day,) for day in extent.spans(extent.tuned))
    return keepable(World(part, cold_start_s, days, extent.spans(extent.judged)))


def servegen_rows(extent: Extent) -> Iterator[Row]:
    """Each model and cold start: every policy, tuned on some days, on the others."""
    for model in extent.models:
        for cold_start_s in extent.cold_starts_s:
            yield _servegen(extent, model, cold_start_s)


def _servegen(extent: Extent, model: str, cold_start_s: float) -> Row:
    world = world_of(extent, model, cold_start_s)
    row = Row("servegen", f"ServeGen {model}, cold start {cold_start_s:g} s", COLUMNS)
    bounded = extent.spans(extent.bounded)
    hours_on_bounded: dict[str, float] = {}
    for contender in (*CONTENDERS, *_foreseeing(world)):
        tuned = tune(contender, world, runs=extent.runs)
        outcome = world.run(tuned.make)
        figures = outcome.figures(*world.judged_on)
        row.figures[contender.name] = _told(figures)
        row.notes.append(f"{contender.name}: {tuned.variant}, utilisation {tuned.utilisation:.2f}")
        hours_on_bounded[contender.name] = outcome.figures(*bounded).replica_hours
    for name, asked in ((NOT_TUNED, GOAL), (MORE_ASKED, MORE)):
        plain = world.run(shifted(PredictiveTuning(), slo_attainment=asked))
        row.figures[name] = _told(plain.figures(*world.judged_on))
        hours_on_bounded[name] = plain.figures(*bounded).replica_hours
    count, static = best_static(world)
    row.figures[f"best static ({count})"] = _told(static)
    least_h = _bound_h(world, bounded, cold_start_s)
    row.figures["clairvoyant bound"] = {
        "replica_h_per_day": least_h / len(extent.bounded),
        "of_clairvoyant": 1.0,
        "within_pct": 100.0 * GOAL,
    }
    for name, hours in hours_on_bounded.items():
        row.figures[name]["of_clairvoyant"] = hours / least_h
    row.goals += _goals(row.figures)
    return row


def _foreseeing(world: World) -> tuple[Contender, ...]:
    """No policies: what is to be had by anybody who goes by a mean, and so doesn't know each burst."""
    ahead_s = world.cold_start_s + DECIDE_EVERY_S
    return tuple(foreseeing(world.series, window_s, ahead_s=ahead_s) for window_s in FORESEEN_S)


def _bound_h(world: World, days: Spans, cold_start_s: float) -> float:
    """The clairvoyant's replica-hours of these days, each on its own."""
    total = 0.0
    prices = (0.3, 300.0)
    for day in days:
        part = world.series.between(*day)
        bound = clairvoyant(part, cold_start_s=cold_start_s, slo_attainment=GOAL, prices_s=prices, tries=4)
        total += bound.replica_hours
        prices = (bound.price_s / 6.0, bound.price_s * 6.0)
    return total


def _told(figures: Run) -> Figures:
    return {
        "replica_h_per_day": figures.replica_hours / figures.hours * 24.0,
        "within_pct": 100.0 * figures.within_slo,
        "launches_per_day": figures.launches_per_day,
    }


def _goals(figures: dict[str, Figures]) -> list[Goal]:
    own, kpa, delayed = (figures[c.name] for c in (PREDICTIVE, KPA, KPA_900))
    hours = own["replica_h_per_day"]
    return [
        Goal("predictive inside the SLO ≥ 99.9 %", own["within_pct"], 99.9, at_least=True),
        Goal("replica-hours ≤ 0.80 × KPA", hours / kpa["replica_h_per_day"], 0.80),
        Goal("replica-hours ≤ 0.90 × KPA + 900 s", hours / delayed["replica_h_per_day"], 0.90),
        Goal("replica-hours ≤ 1.10 × clairvoyant", own["of_clairvoyant"], 1.10),
        Goal("launches a day ≤ KPA + 900 s", own["launches_per_day"], delayed["launches_per_day"]),
    ]


def steps_row(extent: Extent) -> list[Row]:
    """Ten-minute steps as they were recorded: the load jumps at every full ten minutes.

    Here the goal lets the predictive policy be worse than KPA with a delay, if it is cheaper: it is tuned for that too.
    """
    model = extent.models[-1]
    world = world_of(extent, model, 180.0, steps=True)
    row = Row("steps", f"Steps that nobody can foresee (ServeGen {model}, 180 s)", COLUMNS[:3])
    for contender in CONTENDERS:
        tuned = tune(contender, world, runs=extent.runs)
        row.figures[contender.name] = _told(world.run(tuned.make).figures(*world.judged_on))
        row.notes.append(f"{contender.name}: {tuned.variant}, utilisation {tuned.utilisation:.2f}")
    delayed = row.figures[KPA_900.name]
    share = NEARLY * GOAL
    cheaper = tune(PREDICTIVE, world, runs=extent.runs, utilisations=(0.2, 2.0), goal=share)
    own = _told(world.run(cheaper.make).figures(*world.judged_on))
    row.figures[f"predictive, {100 * share:.1f} % wanted"] = own
    row.notes.append(f"with less wanted: {cheaper.variant}, utilisation {cheaper.utilisation:.2f}")
    row.goals += [
        Goal(
            "inside the SLO ≥ 0.9 × KPA + 900 s's",
            own["within_pct"] / delayed["within_pct"],
            NEARLY,
            at_least=True,
        ),
        Goal(
            "replica-hours ≤ 0.85 × KPA + 900 s",
            own["replica_h_per_day"] / delayed["replica_h_per_day"],
            0.85,
        ),
    ]
    return [row]


def azure_row(extent: Extent) -> list[Row]:
    """An hour of bursts, seen once and judged when it comes again."""
    return [_again("azure", "Azure 2023 code × 4, cold start 180 s", _azure(extent))]


def mooncake_row(extent: Extent) -> list[Row]:
    """Seventeen minutes of long prompts, seen once and judged when they come again."""
    return [_again("mooncake", "Mooncake, cold start 180 s", _mooncake(extent))]


def halves_rows(extent: Extent) -> Iterator[Row]:
    """Both seen once; tuned on the first half when they come again, judged by the second, which is unlike it."""
    for title, trace in (("Azure 2023 code × 4", _azure(extent)), ("Mooncake", _mooncake(extent))):
        series, middle_s = traces.twice(trace), 1.5 * trace.seconds
        tuned_on = (((trace.seconds, middle_s),),)
        world = World(series, 180.0, tuned_on, ((middle_s, series.seconds),))
        yield _played(Row("halves", f"{title} by halves, cold start 180 s", HOUR_COLUMNS), world)


def _azure(extent: Extent) -> LoadSeries:
    return traces.azure(extent.data / "azure2023" / "AzureLLMInferenceTrace_code.csv", bin_s=1.0, times=4)


def _mooncake(extent: Extent) -> LoadSeries:
    return traces.mooncake(extent.data / "mooncake" / "synthetic_trace.jsonl", bin_s=1.0)


def _played(row: Row, world: World) -> Row:
    """The row with the figures of the best static count, of what begins with that, and of predictive as it comes."""
    count, static = best_static(world)
    world.first_replicas = count
    row.figures[BEST_STATIC] = _hourly(static)
    row.notes.append(f"{BEST_STATIC}: {count} replicas")
    for contender in CONTENDERS:
        tuned = tune(contender, world, runs=7, utilisations=(0.2, 3.0))
        figures = world.run(tuned.make).figures(*world.judged_on)
        row.figures[contender.name] = _hourly(figures)
        row.notes.append(f"{contender.name}: {tuned.variant}, utilisation {tuned.utilisation:.2f}")
    plain = world.run(shifted(PredictiveTuning())).figures(*world.judged_on)
    row.figures[NOT_TUNED] = _hourly(plain)
    return row


def _again(name: str, title: str, trace: LoadSeries) -> Row:
    """All are tuned on what they are judged by, with hindsight, as the best static count is: there is no other hour.

    What one half of it would do for the other is told by ``halves_rows``.
    """
    series = traces.twice(trace)
    again = ((trace.seconds, series.seconds),)
    row = _played(Row(name, title, HOUR_COLUMNS), World(series, 180.0, (again,), again))
    own, fixed = row.figures[PREDICTIVE.name], row.figures[BEST_STATIC]
    ratio = own["replica_h"] / fixed["replica_h"]
    if name == "azure":
        row.goals += [
            Goal("inside the SLO ≥ 99.9 %", own["within_pct"], 99.9, at_least=True),
            Goal("replica-hours ≤ 1.35 × best static", ratio, 1.35),
        ]
    else:
        row.goals += [
            Goal(
                "inside the SLO ≥ best static's − 0.5 points",
                own["within_pct"],
                fixed["within_pct"] - 0.5,
                at_least=True,
            ),
            Goal("replica-hours ≤ 1.0 × best static", ratio, 1.0),
        ]
    return row


def _hourly(figures: Run) -> Figures:
    return {
        "replica_h": figures.replica_hours,
        "within_pct": 100.0 * figures.within_slo,
        "launches": figures.launches,
    }


def sensitivity_row(extent: Extent) -> list[Row]:
    """What happens to the predictive policy when its constants or what it is told are wrong."""
    model = extent.models[-1]
    world = world_of(extent, model, 180.0)
    plain = PredictiveTuning()
    row = Row("sensitivity", f"Sensitivity of predictive (ServeGen {model}, cold start 180 s)", COLUMNS[:3])
    cases: dict[str, tuple[Make, dict[str, Any]]] = {"as it comes": (shifted(plain), {})}
    for factor in (0.5, 2.0):
        cases[f"horizon (learned cold start) × {factor:g}"] = (
            shifted(plain),
            {"learned_cold_start_s": 180.0 * factor},
        )
    for utilisation in (0.9, 1.1):
        cases[f"utilisation {utilisation:g}"] = (shifted(plain, target_utilisation=utilisation), {})
    for quantile in (0.9, 0.99):
        cases[f"quantile {quantile:g}"] = (shifted(replace(plain, quantile=quantile)), {})
    cases["no head-room by the SLO"] = (shifted(plain), {"disturbed": partial(structs.replace, slo=None)})
    cases["one report in five is missing"] = (shifted(plain), {"disturbed": missing(0.2, SEED)})
    cases["no reports for 10 minutes of each hour"] = (shifted(plain), {"disturbed": missing(None, SEED)})
    cases["every report wrong by a factor of e^±0.2"] = (shifted(plain), {"disturbed": noisy(0.2, SEED)})
    for name, (make, changes) in cases.items():
        row.figures[name] = _told(world.run(make, **changes).figures(*world.judged_on))
    return [row]


def speed_row(extent: Extent) -> list[Row]:
    """The fluid mode's own speed: fourteen days of one deployment."""
    series = traces.servegen(extent.data / "servegen", MODELS[-1], bin_s=5.0, seed=SEED)
    whole = ((0.0, series.seconds),)
    world = World(series, 180.0, (whole,), whole)
    row = Row("speed", "Fourteen days of one deployment in five-second bins", ("requests", "took_s"))
    for contender in (KPA, HPA, PREDICTIVE):
        began_s = time.monotonic()
        world.run(contender.variants[0].make(0.9))
        row.figures[contender.name] = {
            "requests": float(series.requests.sum()),
            "took_s": time.monotonic() - began_s,
        }
    took_s = max(figures["took_s"] for figures in row.figures.values())
    row.goals.append(Goal("≤ 60 s for each policy", took_s, 60.0))
    return [row]


ROWS: dict[str, Callable[[Extent], Iterable[Row]]] = {
    "kpa": kpa_row,
    "servegen": servegen_rows,
    "steps": steps_row,
    "azure": azure_row,
    "mooncake": mooncake_row,
    "halves": halves_rows,
    "sensitivity": sensitivity_row,
    "decide": lambda extent: [decide_row()],
    "speed": speed_row,
    "blend": lambda extent: blend.rows(quick=extent.quick),
}
