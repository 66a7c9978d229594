"""A day of losses, the same for everybody: what our plans leave unserved beside other systems' policies."""

from collections.abc import Callable, Mapping
from random import Random
from statistics import median

from controlplane.placement import PlacementPlan, PlacementProblem, resolve
from controlplane.simulation import Outcome, Planner, incidents_of, simulate
from tests.benchmarks.goals import Figures, Row
from tests.benchmarks.placement.policies import POLICIES
from tests.benchmarks.placement.solving import Size, within

COLUMNS = ("unserved_pct", "usd", "plans", "started", "lost", "rules_broken")
OURS = "Meridian"


def row(size: Size, seeds: range, *, hours: float, search_s: float) -> Row:
    """Medians over seeds; rules that our own plans broke are faults."""
    made = Row("day", f"{hours:g} h of losses, {size.deployments} deployments", COLUMNS)
    found: dict[str, list[Outcome]] = {}
    for seed in seeds:
        problem = size.made(seed)
        incidents = incidents_of(problem, Random(seed), hours=hours)
        for name, planner in planners(search_s).items():
            outcome = simulate(problem, planner, incidents, end_s=hours * 3600, rng=Random(seed))
            found.setdefault(name, []).append(outcome)
            if name == OURS:
                made.faults += [f"seed {seed}: {text}" for text in outcome.broken[:5]]
    made.figures = {name: _figures(outcomes) for name, outcomes in found.items()}
    return made


def planners(search_s: float) -> Mapping[str, Planner]:
    """Ours searches once, then places anew whom each event touches; the others do all they can to keep promises."""
    return {OURS: _ours(search_s)} | {name: _policy(policy) for name, policy in POLICIES.items()}


def _ours(search_s: float) -> Planner:
    def planner(problem: PlacementProblem, before: PlacementPlan, touched: frozenset[str]) -> PlacementPlan:
        if not before.deployments:
            return within(problem, search_s)
        return resolve(problem, before, touched)

    return planner


def _policy(policy: Callable[..., PlacementPlan]) -> Planner:
    def planner(problem: PlacementProblem, before: PlacementPlan, touched: frozenset[str]) -> PlacementPlan:
        return policy(problem, survive=True)

    return planner


def _figures(outcomes: list[Outcome]) -> Figures:
    return {
        "unserved_pct": median(100 * one.unserved_share for one in outcomes),
        "usd": median(one.usd for one in outcomes),
        "plans": median(one.plans for one in outcomes),
        "started": median(one.started_replicas for one in outcomes),
        "lost": median(one.lost_replicas for one in outcomes),
        "rules_broken": median(len(one.broken) for one in outcomes),
    }
