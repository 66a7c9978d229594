"""How near the best, how soon: instances of one size under deadlines, against the best bound that anyone proved.

Each instance is solved in a process of its own, so that its peak memory is its own as well. ``now`` gives the seconds
that deadlines are counted in: of a clock on the wall, or of the process' CPU time on a machine that does other work.
"""

import resource
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from statistics import median

from controlplane.placement import PlacementPlan, PlacementProblem, solve
from controlplane.placement.search.improve import Effort, improve
from tests.benchmarks.goals import Figures, Row
from tests.benchmarks.placement.instances import instance
from tests.benchmarks.placement.measured import Solver, judged, timed

COLUMNS = (
    *("took_s", "took_s_worst", "gap_pct", "gap_pct_worst", "proven_pct"),
    *("usd_per_h", "relaxed", "refused", "rss_gib"),
)
FIRST = "first plan"
#: Counted work that no instance takes: the time that is left ends the search.
ENDLESS = 10**6
#: So near to its bound a plan is proven, in per cent of what is spent.
PROVEN_PCT = 0.1

Now = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Size:
    """What an instance is made of."""

    deployments: int
    pools: int
    regions: int

    def made(self, seed: int) -> PlacementProblem:
        return instance(deployments=self.deployments, pools=self.pools, regions=self.regions, seed=seed)


@dataclass(frozen=True, slots=True)
class Found:
    """What one instance gave by mark: FIRST, or the seconds that the search had."""

    figures: dict[str, Figures]
    faults: tuple[str, ...]


def row(
    name: str,
    title: str,
    size: Size,
    seconds: Sequence[float],
    seeds: Sequence[int],
    *,
    now: Now = time.perf_counter,
) -> Row:
    """Medians over seeds, by mark; what took longest, the worst gap, and how many of all are proven."""
    made = Row(name, title, COLUMNS)
    found: list[Found] = []
    for seed in seeds:
        try:
            one = apart(size, seed, tuple(seconds), now)
        except Exception as error:  # told, so that the other rows are measured
            made.faults.append(f"seed {seed}: {error!r}")
            continue
        found.append(one)
        made.faults += [f"seed {seed}: {text}" for text in one.faults[:5]]
    if found:
        for mark in found[0].figures:
            made.figures[mark] = {
                column: median(one.figures[mark][column] for one in found) for column in COLUMNS
            }
            gaps = [one.figures[mark]["gap_pct"] for one in found]
            made.figures[mark]["gap_pct_worst"] = max(gaps)
            made.figures[mark]["took_s_worst"] = max(one.figures[mark]["took_s"] for one in found)
            made.figures[mark]["proven_pct"] = 100 * sum(gap <= PROVEN_PCT for gap in gaps) / len(gaps)
    return made


def apart(size: Size, seed: int, seconds: tuple[float, ...], now: Now) -> Found:
    """``solved`` in a fresh process. Raises what it raises."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as processes:
        return processes.submit(solved, size, seed, seconds, now).result()


def solved(size: Size, seed: int, seconds: tuple[float, ...], now: Now) -> Found:
    """The first plan, and the best after so many seconds more, each search from the start.

    Judging comes last, so that its memory is not taken for that of solving.
    """
    problem = size.made(seed)
    solvers: dict[str, Solver] = {FIRST: lambda: solve(problem)}
    for limit_s in sorted(seconds):
        solvers[f"{limit_s:g} s"] = partial(within, problem, limit_s, now)
    plans = {mark: (*timed(solver, now), peak_gib()) for mark, solver in solvers.items()}
    answers = {
        mark: (judged(problem, plan, took_s), rss_gib) for mark, (plan, took_s, rss_gib) in plans.items()
    }
    bound = max(answer.bound_micro_usd_per_h for answer, _ in answers.values())
    figures = {
        mark: {
            "took_s": answer.took_s,
            "took_s_worst": answer.took_s,
            "gap_pct": answer.gap_pct(bound),
            "gap_pct_worst": answer.gap_pct(bound),
            "proven_pct": 100.0 * (answer.gap_pct(bound) <= PROVEN_PCT),
            "usd_per_h": (answer.cost.total_micro_usd_per_h - answer.cost.relaxed_micro_usd_per_h) / 1e6,
            "relaxed": float(answer.relaxed),
            "refused": float(answer.refused),
            "rss_gib": rss_gib,
        }
        for mark, (answer, rss_gib) in answers.items()
    }
    faults = [f"{mark}: {text}" for mark, (answer, _) in answers.items() for text in answer.faults]
    return Found(figures, tuple(faults))


def within(problem: PlacementProblem, limit_s: float, now: Now = time.perf_counter) -> PlacementPlan:
    """The best plan that is found in so many seconds."""
    ends_s = now() + limit_s
    effort = Effort(rounds=ENDLESS, nodes=ENDLESS, repairs=ENDLESS, left_s=lambda: ends_s - now())
    return improve(problem, start=None, effort=effort, seed=0)


def peak_gib() -> float:
    """The most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
