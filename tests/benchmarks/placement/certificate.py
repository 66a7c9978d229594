"""Certificate against simulation on as many random cases as one likes, and a solver against the certificate.

    python -m tests.benchmarks.placement.certificate --cases 10000

Each case is a random problem with everything in it, and a random plan for it. What the certificate says of the plan is
held against losing every domain by hand, replica by replica. Then the problem is solved, and each fourth one searched
for the cheapest plan: the same again for those plans, and whoever they say they placed as wished must be found so.
"""

import argparse
import sys
from dataclasses import dataclass
from random import Random
from time import perf_counter

from controlplane.placement import solve
from controlplane.placement.search.improve import Effort, improve
from tests.controlplane.placement.failures import disagreements, untruths
from tests.controlplane.placement.random_worlds import random_plan, random_problem

#: So many disagreements are printed.
TOLD = 10

#: Every so many cases are searched too, for so long.
SEARCHED = 4
EFFORT = Effort(rounds=8, nodes=50, repairs=4)


@dataclass(frozen=True)
class Report:
    """What came out."""

    cases: int
    disagreements: tuple[str, ...]
    untruths: tuple[str, ...]
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.cases} random problems, each with a random and a solved plan, one in {SEARCHED} with a searched"
            f" one: {len(self.disagreements)}"
            " disagreements between certificate and simulation,"
            f" {len(self.untruths)} promises or rules that the solver broke and did not say so,"
            f" in {self.seconds:.0f} s"
        )


def certificate_cases(cases: int, *, seed: int = 0) -> Report:
    """Judge so many random cases. Deterministic for a seed, but for the seconds."""
    started = perf_counter()
    wrong, untrue = [], []
    for number in range(cases):
        rng = Random(f"{seed} {number}")
        problem = random_problem(
            rng, clusters=rng.randint(1, 6), pools=rng.randint(1, 9), deployments=rng.randint(1, 6)
        )
        plans = {"random": random_plan(rng, problem), "solved": solve(problem)}
        if number % SEARCHED == 0:
            plans["searched"] = improve(problem, start=plans["solved"], effort=EFFORT, seed=number)
        for name, plan in plans.items():
            wrong += [f"case {seed} {number}, {name}: {said}" for said in disagreements(problem, plan)]
            if name != "random":
                untrue += [f"case {seed} {number}, {name}: {said}" for said in untruths(problem, plan)]
    return Report(cases, tuple(wrong), tuple(untrue), perf_counter() - started)


def main() -> int:
    """1 where anything was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    report = certificate_cases(arguments.cases, seed=arguments.seed)
    for line in (*report.disagreements[:TOLD], *report.untruths[:TOLD]):
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(f"{report}\n")
    return int(bool(report.disagreements or report.untruths))


if __name__ == "__main__":
    sys.exit(main())
