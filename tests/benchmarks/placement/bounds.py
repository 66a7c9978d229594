"""Is any plan cheaper than a bound says that none is? On as many random small worlds as one likes.

    python -m tests.benchmarks.placement.bounds --cases 1000

Each world is searched to the end. Then the same question is put as one integer program, without prices, lists of ways
or anything that was proven: what it finds must not be below the bound, and not below what the search found. A third of
the worlds are small ones of the benchmark, half of these with less capacity and smaller budgets than they need; the
others have everything in them, often too little of it.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from time import process_time

import numpy as np

from controlplane.placement import PlacementPlan, PlacementProblem, priced, solve
from controlplane.placement.search.columns import Column
from controlplane.placement.search.improve import Effort, Search, improve
from controlplane.placement.search.joint import Joint, Limits, Party
from tests.benchmarks.placement.instances import instance
from tests.controlplane.placement.random_worlds import random_problem

EFFORT = Effort(rounds=30, nodes=20_000)

#: Each deployment's costs are rounded to micro-USD, and bounds down.
ROUNDING_MICRO_USD_PER_H = 200

#: A plan is as good as another that costs so much less, as a part of what is spent.
NEAR = 1e-3


def squeezed(problem: PlacementProblem, capacity: float, budget: float) -> PlacementProblem:
    """The same with such a part of each pool's capacity and of each budget."""
    pools = (
        replace(one, capacity_instances=max(1, int(one.capacity_instances * capacity)))
        for one in problem.pools
    )
    budgets = (
        replace(one, micro_usd_per_h=max(1, int(one.micro_usd_per_h * budget))) for one in problem.budgets
    )
    return replace(problem, pools=tuple(pools), budgets=tuple(budgets))


def world(number: int, *, seed: int = 0) -> PlacementProblem:
    """A random small world."""
    rng = Random(f"bounds {seed} {number}")
    if number % 3:
        return random_problem(
            rng, clusters=rng.randint(1, 6), pools=rng.randint(1, 9), deployments=rng.randint(1, 6)
        )
    made = instance(
        deployments=rng.randint(2, 6), pools=rng.randint(6, 9), regions=rng.randint(1, 3), seed=number + seed
    )
    return squeezed(made, rng.choice((0.4, 0.6, 0.8)), rng.choice((0.6, 0.8, 1.0))) if number % 2 else made


def wrongs(problem: PlacementProblem) -> Iterator[str]:
    """What is wrong with the search's answer to a small problem."""
    start = priced(problem, solve(problem))
    plan = improve(problem, start=start, effort=EFFORT, seed=1)
    cost, bound = plan.objective_micro_usd_per_h, plan.lower_bound_micro_usd_per_h
    if cost is None or bound is None:
        return
    if bound > cost:
        yield f"the bound {bound} is above the plan's own cost {cost}"
    beside = _beside(problem, start)
    for least, found in _at_once(problem, start):
        if bound - beside > least + ROUNDING_MICRO_USD_PER_H:
            yield f"the bound {bound - beside} is above a plan that costs {least} at least"
        if cost > found + NEAR * abs(found) + ROUNDING_MICRO_USD_PER_H:
            yield f"the plan costs {cost}, another one {found}"


def _at_once(problem: PlacementProblem, start: PlacementPlan) -> Iterator[tuple[float, int]]:
    """What the cheapest plans cost that one program finds, counted strictly and loosely, if they fit.

    At least, without those who take no room, and as written down: a reservation pays for whole replicas only.
    """
    search = Search(problem, start, Effort(), np.random.default_rng(0))
    demanders, master = search.demanders, search.master
    parties = [
        Party(number=number, offers=demanders.by_number[number], known=[master.columns[place]])
        for place, number in enumerate(demanders.numbers)
    ]
    for strict in (True, False) if parties else ():
        joint = Joint(search.offers, parties, master.room(()), strict=strict)
        answer = joint.solve(Limits(gap_micro_usd_per_h=1.0, nodes=10**6, time_s=60.0))
        columns: list[Column] = [one for one in answer.columns or () if one is not None]
        if len(columns) == len(parties):
            master.add(columns)
            chosen = [master.position(one) for one in columns]
            if master.fits(chosen) and master.packs(chosen):
                search.chosen = chosen
                yield master.value(chosen), search.plan().objective_micro_usd_per_h or 0


def _beside(problem: PlacementProblem, start: PlacementPlan) -> float:
    """What those cost who take no room: the search does not look at them."""
    search = Search(problem, start, Effort(), np.random.default_rng(0))
    return (start.objective_micro_usd_per_h or 0) - search.master.value(range(len(search.demanders.numbers)))


def main() -> int:
    """1 where anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    began_s, wrong = process_time(), 0
    for number in range(arguments.cases):
        for said in wrongs(world(number, seed=arguments.seed)):
            wrong += 1
            sys.stdout.write(f"world {arguments.seed} {number}: {said}\n")
    sys.stdout.write(f"{arguments.cases} worlds, {wrong} wrong, {process_time() - began_s:.0f} CPU s\n")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
