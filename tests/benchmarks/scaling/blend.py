"""What is rented how: the spot blend beside SkyServe's policy, reservations beside hindsight, work beside its deadline.

``python -m tests.benchmarks.scaling.blend`` prints the tables; ``--tune`` searches the blend's settings anew, on worlds
that are not reported; ``--traces FOLDER`` plays recorded zones instead (``spot_world.world_read``).
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

from controlplane.procurement import Blend, BlendPolicy, DoorPolicy, Policy
from tests.benchmarks.goals import Goal, Row, machine, summary, table
from tests.benchmarks.scaling.deadline_rows import deadline_row
from tests.benchmarks.scaling.reserved_rows import reserved_rows
from tests.benchmarks.scaling.skyserve import SkyServe
from tests.benchmarks.scaling.spot_world import SHAPES, Played, Shape, SpotWorld, play, world_made, world_read

TUNED_ON, REPORTED = range(101, 104), range(401, 407)
DAYS, QUICK_DAYS = 14.0, 4.0
#: What is used everywhere: found by ``--tune``; moves and rest, then what is extra, chosen on more worlds that are not
#: reported.
TUNED = BlendPolicy()
#: SkyServe's extras that are shown. Its goal is held against the one that tuning chose for it.
EXTRAS = range(5)
#: Chosen for SkyServe on the tuning worlds: the fewest extras after which one more gains under 0.1 points.
GAIN_LEAST = 0.001
COLUMNS = (
    "available_pct",
    "usd_per_h",
    "spot_usd_per_h",
    "failed_per_day",
    "launches_per_day",
    "lost_per_day",
)

PolicyMade = Callable[[SpotWorld], Policy[Any]]


@dataclass(frozen=True, slots=True)
class Candidate:
    name: str
    made: PolicyMade


def skyserve(extra: int) -> Candidate:
    return Candidate(f"skyserve, {extra} extra", lambda world: SkyServe(markets=world.markets, extra=extra))


def blend(policy: BlendPolicy = TUNED, name: str = "blend") -> Candidate:
    return Candidate(name, lambda world: Blend(markets=world.markets, policy=policy))


#: What it is worth to be short decides how much is rented beyond what is needed: half and twice as much.
SENSITIVITY = tuple(
    blend(replace(TUNED, short_worth=worth), f"blend, being short worth {worth:g}") for worth in (85.0, 340.0)
)


def played(candidate: Candidate, worlds: Iterable[SpotWorld]) -> dict[str, float]:
    """The means over worlds."""
    found = [(play(world, candidate.made(world)), world) for world in worlds]
    days = [world.ticks / 1440 for _, world in found]

    def mean(of: Callable[[Played], float]) -> float:
        return fmean(of(outcome) for outcome, _ in found)

    def daily(of: Callable[[Played], float]) -> float:
        return sum(of(outcome) for outcome, _ in found) / sum(days)

    return {
        "available_pct": 100 * mean(lambda o: o.available),
        "usd_per_h": mean(lambda o: o.usd_per_h),
        "spot_usd_per_h": mean(lambda o: o.spot_usd_per_h),
        "failed_per_day": daily(lambda o: o.failed_launches),
        "launches_per_day": daily(lambda o: o.launches),
        "lost_per_day": daily(lambda o: o.lost),
    }


def spot_row(shape: Shape, *, days: float, seeds: Sequence[int]) -> Row:
    """One family of worlds, with the goals against SkyServe's policy."""
    worlds = [world_made(shape, seed=seed, days=days) for seed in seeds]
    return _row(shape.name.replace(" ", "_"), f"Spot blend, {shape.name}", worlds, CHOSEN_EXTRA[shape.name])


def traces_row(folder: Path, *, wanted: int, price_share: float) -> Row:
    """Recorded zones, with the goals against the best that SkyServe's policy does there."""
    world = world_read(folder, wanted=wanted, on_demand_usd_per_h=10.0, price_share=price_share)
    extra = chosen_extra([played(skyserve(extra), [world]) for extra in EXTRAS])
    return _row(folder.name, f"Spot blend, recorded zones of {folder.name}", [world], extra)


def _row(name: str, title: str, worlds: Sequence[SpotWorld], extra: int) -> Row:
    row = Row(name=f"spot_{name}", title=title, columns=COLUMNS)
    on_demand = fmean(
        world.wanted * min(market.on_demand_micro_usd_per_h or 0 for market in world.markets) / 1e6
        for world in worlds
    )
    row.figures["on demand alone"] = {"available_pct": 100.0, "usd_per_h": on_demand, "failed_per_day": 0.0}
    for candidate in (*map(skyserve, EXTRAS), blend(), *SENSITIVITY):
        row.figures[candidate.name] = played(candidate, worlds)
    ours, theirs = row.figures["blend"], row.figures[f"skyserve, {extra} extra"]
    named = f"SkyServe's with {extra} extra"
    row.goals = [
        Goal(f"available ≥ {named}", ours["available_pct"], theirs["available_pct"], at_least=True),
        Goal(f"cost ≤ 0.85 × {named}", ours["usd_per_h"], 0.85 * theirs["usd_per_h"]),
        Goal(f"failed launches a day ≤ 1/3 of {named}", ours["failed_per_day"], theirs["failed_per_day"] / 3),
    ]
    return row


def chosen_extra(found: Sequence[dict[str, float]]) -> int:
    """SkyServe's own tuning: extras as long as one more gains availability."""
    chosen = 0
    for extra in range(1, len(found)):
        if found[extra]["available_pct"] - found[chosen]["available_pct"] < 100 * GAIN_LEAST:
            break
        chosen = extra
    return chosen


#: By ``--tune``, on the tuning worlds.
CHOSEN_EXTRA = {
    "nine zones, three regions": 2,
    "three zones, sixteen nodes": 4,
    "six zones, five regions": 2,
}


def rows(*, quick: bool = False) -> list[Row]:
    """All rows of procurement."""
    seeds = list(REPORTED)[:2] if quick else list(REPORTED)
    days = QUICK_DAYS if quick else DAYS
    return [
        *(spot_row(shape, days=days, seeds=seeds) for shape in SHAPES),
        *reserved_rows(quick=quick),
        deadline_row(quick=quick),
    ]


def tune(budget: int, *, days: float, seed: int) -> None:
    """Search the blend's settings at random: at least as available as SkyServe everywhere, then the cheapest."""
    worlds = {shape.name: [world_made(shape, seed=seed, days=days) for seed in TUNED_ON] for shape in SHAPES}
    theirs = {}
    for name, own in worlds.items():
        found = [played(skyserve(extra), own) for extra in EXTRAS]
        extra = chosen_extra(found)
        theirs[name] = found[extra]
        figures = [(round(f["available_pct"], 2), round(f["usd_per_h"], 1)) for f in found]
        sys.stdout.write(f"{name}: {extra} extra {figures}\n")
    rng, best, least = Random(seed), BlendPolicy(), float("inf")
    for trial in range(budget):
        policy = best if trial == 0 else _near(rng, best) if trial > budget // 20 else _anywhere(rng)
        score, said = _score(policy, worlds, theirs)
        if score < least:
            best, least = policy, score
            sys.stdout.write(f"{trial}: {score:.4f} {said} {policy}\n")
            sys.stdout.flush()


def _score(
    policy: BlendPolicy, worlds: dict[str, list[SpotWorld]], theirs: dict[str, dict[str, float]]
) -> tuple[float, str]:
    total, said = 0.0, []
    for name, own in worlds.items():
        ours = played(blend(policy), own)
        short = max(0.0, theirs[name]["available_pct"] + 0.05 - ours["available_pct"])
        cost = ours["usd_per_h"] / theirs[name]["usd_per_h"]
        failed = ours["failed_per_day"] / max(1.0, theirs[name]["failed_per_day"])
        total += cost + 2 * max(0.0, cost - 0.84) + 2 * short + 2 * max(0.0, failed - 0.31)
        said.append(
            f"{ours['available_pct']:.2f}/{theirs[name]['available_pct']:.2f} {cost:.3f} {failed:.2f}"
        )
    return total, "; ".join(said)


_CHOICES: dict[str, tuple[Any, ...]] = {
    "extra_most": (2, 3, 4, 6),
    "short_worth": (10.0, 25.0, 35.0, 50.0, 70.0, 100.0, 140.0, 170.0, 200.0, 300.0),
    "hold_s": (120.0, 300.0, 600.0, 900.0, 1800.0),
    "extra_hold_s": (1800.0, 3600.0, 7200.0, 14_400.0, 21_600.0, 43_200.0),
    "interruption_h": (0.25, 0.5, 1.0, 2.0, 4.0),
    "spread_h": (0.0, 0.1, 0.2, 0.3, 0.5, 1.0),
    "refusal_h": (0.25, 1.0, 2.0, 4.0, 8.0),
    "held_refusal_share": (0.0, 0.1, 0.3),
    "obtained_prior": (0.6, 0.8),
    "unproven_most": (1, 2, 16),
    "move_share": (None, 0.02, 0.05, 0.1, 0.25, 0.5),
    "rest_s": (21_600.0, 43_200.0, 64_800.0, 86_400.0),
    "rest_power": (1.0, 2.0, 4.0, 8.0),
    "prior_per_h": (0.02, 0.05, 0.1),
    "prior_h": (3.0, 6.0, 12.0, 24.0),
    "half_life_h": (6.0, 12.0, 24.0, 72.0, 168.0),
    "obtained_half_life_h": (6.0, 12.0, 24.0, 48.0),
}
_DOORS = tuple(
    DoorPolicy(first_s=first_s, most_s=most_s, window_most=window_most)
    for first_s in (900.0, 1800.0, 3600.0, 7200.0)
    for most_s in (14_400.0, 43_200.0, 86_400.0)
    for window_most in (1, 2, 4)
)


def _anywhere(rng: Random) -> BlendPolicy:
    return BlendPolicy(
        **{name: rng.choice(values) for name, values in _CHOICES.items()}, spot=rng.choice(_DOORS)
    )


def _near(rng: Random, best: BlendPolicy) -> BlendPolicy:
    names = rng.sample([*_CHOICES, "spot"], rng.randint(1, 3))
    return replace(best, **{name: rng.choice(_DOORS if name == "spot" else _CHOICES[name]) for name in names})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter worlds, fewer seeds")
    parser.add_argument("--tune", type=int, metavar="TRIALS", help="search the blend's settings anew")
    parser.add_argument("--seed", type=int, default=7, help="of the search")
    parser.add_argument("--traces", type=Path, metavar="FOLDER", help="recorded zones, one JSON file each")
    parser.add_argument("--wanted", type=int, default=4, help="with --traces: instances that are to serve")
    parser.add_argument("--price-share", type=float, default=0.3, help="with --traces: spot's of on demand's")
    given = parser.parse_args()
    if given.tune:
        tune(given.tune, days=QUICK_DAYS if given.quick else 7.0, seed=given.seed)
        return 0
    if given.traces:
        found = [traces_row(given.traces, wanted=given.wanted, price_share=given.price_share)]
    else:
        found = rows(quick=given.quick)
    facts = ", ".join(f"{name} {value}" for name, value in machine().items())
    sys.stdout.write(f"{facts}\n{''.join(map(table, found))}{summary(found)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
