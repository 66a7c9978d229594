"""The rows of the placement table: what is measured, and the goals that it is held against."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from controlplane.placement import PlacementPlan, PlacementProblem
from tests.benchmarks.goals import Goal, Row
from tests.benchmarks.placement import database, day, events, rivals, solving
from tests.benchmarks.placement.certificate import certificate_cases
from tests.benchmarks.placement.policies import POLICIES
from tests.benchmarks.placement.solving import FIRST, Size

SMALL, HUNDRED, FLEET, LARGE = Size(10, 12, 4), Size(100, 40, 8), Size(1000, 40, 8), Size(5000, 200, 24)


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured.

    quick:       fewer seeds, and no search longer than 20 s
    in_cpu_time: deadlines are seconds of the process, for a machine that does other work
    """

    seeds: int
    quick: bool
    in_cpu_time: bool = False

    @property
    def now(self) -> Callable[[], float]:
        """The clock of deadlines."""
        return time.process_time if self.in_cpu_time else time.perf_counter

    def of(self, seeds: int) -> range:
        """Seeds for a row that takes ``seeds`` where all takes three."""
        return range(1, 1 + max(1, seeds * self.seeds // 3))

    def seconds(self, *limits_s: float) -> tuple[float, ...]:
        """The deadlines that are tried."""
        return tuple(limit_s for limit_s in limits_s if not self.quick or limit_s <= 20) or (20.0,)


def small(extent: Extent) -> Row:
    """At most 10 deployments on 12 pools: proven optimal.

    In CPU time the search may go on to its end, and it is told when that was: HiGHS counts by the wall, where a machine
    that does other work has little of 2 s left for it.
    """
    limit_s = 20.0 if extent.in_cpu_time else 2.0
    title = "10 deployments, 12 pools"
    row = solving.row("small", title, SMALL, (limit_s,), extent.of(15), now=extent.now)
    _goal(row, f"{limit_s:g} s", "proven within 0.1 % (worst of all seeds)", "gap_pct_worst", 0.1)
    _goal(row, f"{limit_s:g} s", "that in 2 s (the longest)", "took_s_worst", 2.1)
    return row


def hundred(extent: Extent) -> Row:
    """100 deployments on 40 pools."""
    row = solving.row("hundred", "100 deployments, 40 pools", HUNDRED, (20.0,), extent.of(3), now=extent.now)
    _goal(row, "20 s", "at most 2 % above the bound in 20 s", "gap_pct", 2.0)
    return row


def fleet(extent: Extent) -> Row:
    """1,000 deployments on 40 pools in 8 regions."""
    seconds = extent.seconds(60.0, 300.0)
    row = solving.row(
        "fleet", "1,000 deployments, 40 pools, 8 regions", FLEET, seconds, extent.of(3), now=extent.now
    )
    _goal(row, FIRST, "a feasible plan in 3 s", "took_s", 3.0)
    _goal(row, "60 s", "at most 1 % above the best bound in 60 s", "gap_pct", 1.0)
    _goal(row, "300 s", "at most 0.4 % above the best bound in 5 min", "gap_pct", 0.4)
    return row


def large(extent: Extent) -> Row:
    """More than 100,000 GPUs."""
    seconds = extent.seconds(300.0)
    row = solving.row(
        "large",
        "100,000 GPUs: 5,000 deployments, 200 pools, 24 regions",
        LARGE,
        seconds,
        extent.of(1),
        now=extent.now,
    )
    _goal(row, FIRST, "a feasible plan in 30 s", "took_s", 30.0)
    _goal(row, "300 s", "at most 1.5 % above the best bound in 5 min", "gap_pct", 1.5)
    for mark in row.figures:
        _goal(row, mark, f"at most 4 GiB ({mark})", "rss_gib", 4.0)
    return row


def _goal(row: Row, mark: str, text: str, column: str, bound: float) -> None:
    if mark in row.figures:
        row.goals.append(Goal(text, row.figures[mark][column], bound))


def single_events(extent: Extent) -> Row:
    """One event each, of five kinds, at 1,000 x 40."""
    row = Row("events", "one event at 1,000 deployments, 40 pools", ("p50_ms", "p99_ms", "touched"))
    problem = FLEET.made(1)
    (limit_s,) = extent.seconds(60.0)
    plan = solving.within(problem, limit_s, extent.now)
    row.figures["re-solve"], row.faults = events.measured(problem, plan, 50 if extent.quick else 200, seed=1)
    row.goals.append(Goal("p99 ≤ 250 ms", row.figures["re-solve"]["p99_ms"], 250.0))
    return row


def through_database(extent: Extent) -> Row:
    """One event each from rows to rows: loaded, decided, adopted."""
    found = database.row(FLEET, 1 if extent.quick else 3)
    one = found.figures["deployment changed"]
    found.goals.append(Goal("decided in 250 ms", one["decide_ms"], 250.0))
    found.goals.append(Goal("loaded and adopted in 1 s", one["load_ms"] + one["apply_ms"], 1000.0))
    return found


def _beside(extent: Extent, *, survive: bool) -> Row:
    kind = "equal survivability" if survive else "equal demand served"
    row = Row(
        "survive" if survive else "peers",
        f"cheaper than other policies at {kind} (per cent of what a plan costs, and of the bill alone)",
        (
            *("left_out", "broken", "rules_broken", "saving_pct", "least_saving_pct"),
            *("bill_saving_pct", "least_bill_saving_pct", "dearer"),
        ),
    )
    sizes = [(HUNDRED, seed, 5.0) for seed in extent.of(15)]
    sizes += [] if extent.quick else [(FLEET, seed, 30.0) for seed in extent.of(3)]
    found: dict[str, list[rivals.Match]] = {name: [] for name in POLICIES}
    for size, seed, limit_s in sizes:

        def ours(problem: PlacementProblem, limit_s: float = limit_s) -> PlacementPlan:
            return solving.within(problem, limit_s, extent.now)

        for name, match in rivals.matches(size.made(seed), ours, survive=survive).items():
            found[name].append(match)
    for name, matches in found.items():
        figures = row.figures[name] = rivals.figures(matches)
        if survive:
            text = f"median ≥ 15 % cheaper than {name} at {kind}"
            row.goals.append(Goal(text, figures["saving_pct"], 15.0, at_least=True))
        text = f"never dearer than {name} at {kind} ({len(matches)} instances)"
        row.goals.append(Goal(text, figures["dearer"], 0.0))
    return row


def at_equal_demand(extent: Extent) -> Row:
    """Nobody must survive anything; everybody serves the same."""
    return _beside(extent, survive=False)


def at_equal_survivability(extent: Extent) -> Row:
    """Every deployment that is compared keeps its promise, by the certificate, in both plans."""
    return _beside(extent, survive=True)


def certificate(extent: Extent) -> Row:
    """The certificate against losing every failure domain by hand, and the solver against the certificate."""
    report = certificate_cases(1_000 if extent.quick else 10_000)
    row = Row("certificate", "certificate against brute force", ("cases", "disagreements", "untruths"))
    row.faults += (*report.disagreements, *report.untruths)[:10]
    wrong, untrue = float(len(report.disagreements)), float(len(report.untruths))
    row.figures["losses by hand"] = {"cases": float(report.cases), "disagreements": wrong, "untruths": untrue}
    row.goals.append(Goal(f"no disagreement in {report.cases:,} cases, two plans each", wrong, 0.0))
    row.goals.append(Goal("no promise or rule that the solver broke and did not say so", untrue, 0.0))
    return row


def a_day(extent: Extent) -> Row:
    """What is lost in a day, by planner."""
    found = day.row(HUNDRED, extent.of(3), hours=6 if extent.quick else 24, search_s=10)
    if day.OURS in found.figures:
        own = found.figures[day.OURS]["unserved_pct"]
        least = min(figures["unserved_pct"] for name, figures in found.figures.items() if name != day.OURS)
        found.goals.append(Goal("no more unserved than under any other policy", own, least))
    return found


ROWS: Mapping[str, Callable[[Extent], Row]] = {
    "small": small,
    "hundred": hundred,
    "fleet": fleet,
    "large": large,
    "events": single_events,
    "database": through_database,
    "peers": at_equal_demand,
    "survive": at_equal_survivability,
    "certificate": certificate,
    "day": a_day,
}
