"""One thing happens to a world whose plan was carried out: how long until there is a plan again, and who is touched?

Timed is all that comes between the two: finding whom the event touches, and placing those anew.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from statistics import median

from controlplane.placement import (
    PlacementPlan,
    PlacementProblem,
    Pool,
    resolve,
    to_place_anew,
)
from controlplane.placement.undisturbed import undisturbed
from tests.benchmarks.goals import Figures
from tests.benchmarks.placement.measured import faults
from tests.controlplane.placement.worlds import adopted


@dataclass(frozen=True, slots=True)
class Event:
    """The world after it."""

    kind: str
    problem: PlacementProblem


def carried_out(problem: PlacementProblem, plan: PlacementPlan) -> PlacementProblem:
    """The same world once everything runs as planned."""
    return replace(adopted(problem, plan), occupancies=())


def events(problem: PlacementProblem, rng: Random, count: int) -> Iterator[Event]:
    """So many events, one of each kind after the other, each to the same world."""
    for number in range(count):
        yield KINDS[number % len(KINDS)](problem, rng)


def _pools(problem: PlacementProblem, change: Callable[[Pool], Pool], pool_ids: set[str]) -> PlacementProblem:
    return replace(
        problem,
        pools=tuple(change(pool) if pool.pool_id in pool_ids else pool for pool in problem.pools),
    )


def _used(problem: PlacementProblem, procurement: str = "") -> list[str]:
    used = sorted({row.pool_id for row in problem.current})
    return [one for one in used if procurement in ("", problem.pool_by_id[one].procurement)]


def pool_lost(problem: PlacementProblem, rng: Random) -> Event:
    """A pool is gone, with all that ran there."""
    lost = {rng.choice(_used(problem))}
    after = _pools(problem, lambda pool: replace(pool, capacity_instances=0, closed="lost"), lost)
    after = replace(after, current=tuple(row for row in problem.current if row.pool_id not in lost))
    return Event("pool lost", after)


def spot_reclaimed(problem: PlacementProblem, rng: Random) -> Event:
    """The provider takes back half of a spot pool."""
    lost = {rng.choice(_used(problem, "spot") or _used(problem))}
    after = _pools(problem, lambda pool: replace(pool, capacity_instances=pool.capacity_instances // 2), lost)
    return Event("spot reclaimed", after)


def deployment_changed(problem: PlacementProblem, rng: Random) -> Event:
    """An owner asks for one replica more, of a new revision."""
    number = rng.randrange(len(problem.deployments))
    old = problem.deployments[number]
    new = replace(
        old,
        generation=old.generation + 1,
        revision=old.revision + 1,
        revision_id=f"{old.revision_id}+1",
        min_replicas=old.min_replicas + 1,
        max_replicas=max(old.max_replicas, old.min_replicas + 1),
    )
    deployments = (*problem.deployments[:number], new, *problem.deployments[number + 1 :])
    return Event("deployment changed", replace(problem, deployments=deployments))


def demand_moved(problem: PlacementProblem, rng: Random) -> Event:
    """One deployment's demand rises or falls by 30 %."""
    moved = rng.choice(problem.demands).deployment_id
    factor = rng.choice((0.7, 1.3))
    demands = tuple(
        replace(
            row,
            requests_per_s_p50=row.requests_per_s_p50 * factor,
            requests_per_s_p95=row.requests_per_s_p95 * factor,
            tokens_per_s_p50=row.tokens_per_s_p50 * factor,
            tokens_per_s_p95=row.tokens_per_s_p95 * factor,
        )
        if row.deployment_id == moved
        else row
        for row in problem.demands
    )
    return Event("demand moved", replace(problem, demands=demands))


def price_changed(problem: PlacementProblem, rng: Random) -> Event:
    """A spot pool costs half as much again."""
    dearer = {rng.choice(_used(problem, "spot") or _used(problem))}
    after = _pools(
        problem,
        lambda pool: replace(
            pool, instance_micro_usd_per_h=round((pool.instance_micro_usd_per_h or 0) * 1.5)
        ),
        dearer,
    )
    return Event("price changed", after)


KINDS: Sequence[Callable[[PlacementProblem, Random], Event]] = (
    pool_lost,
    spot_reclaimed,
    deployment_changed,
    demand_moved,
    price_changed,
)


#: Each event is answered so many times, each time after the one before it: the median is what it takes.
RUNS = 3


def measured(
    problem: PlacementProblem, plan: PlacementPlan, count: int, seed: int
) -> tuple[Figures, list[str]]:
    """Percentiles of re-solving so many events, and what was wrong with the plans."""
    world = carried_out(problem, plan)
    runs, counts, wrong = [], [], []
    for run in range(RUNS):
        taken_ms = []
        for event in events(world, Random(seed), count):
            began_s = time.perf_counter()
            with undisturbed():
                touched = to_place_anew(plan, world, event.problem)
                after = resolve(event.problem, plan, touched)
            taken_ms.append((time.perf_counter() - began_s) * 1000)
            if run > 0:
                continue
            counts.append(len(touched))
            moved = _moved_beside(world, touched, after)
            if moved:
                wrong.append(f"{event.kind}: {len(moved)} moved that it does not touch, {moved[0]} first")
            wrong += [f"{event.kind}: {text}" for text in faults(event.problem, after)[:3]]
        runs.append(taken_ms)
    of_events_ms = sorted(map(median, zip(*runs, strict=True)))
    return (
        {
            "p50_ms": of_events_ms[len(of_events_ms) // 2],
            "p99_ms": of_events_ms[min(len(of_events_ms) - 1, int(len(of_events_ms) * 0.99))],
            "touched": sum(counts) / len(counts),
        },
        wrong,
    )


def _moved_beside(world: PlacementProblem, touched: frozenset[str], after: PlacementPlan) -> list[str]:
    """Whoever changed though it was not touched, but for who gave a spare up.

    Who did says so, or gave it to a touched one and has another elsewhere.
    """
    before, now = {}, {}
    for entry in after.deployments:
        name = entry.deployment_id
        before[name] = {row.pool_id: row.room_replicas for row in world.current_of(name)}
        now[name] = {row.pool_id: row.room_replicas for row in entry.allocations}
    taken = {
        pool
        for name in touched & now.keys()
        for pool, rooms in now[name].items()
        if rooms > before[name].get(pool, 0)
    }
    moved = []
    for entry in after.deployments:
        name = entry.deployment_id
        if name in touched or before[name] == now[name]:
            continue
        given = {pool for pool, rooms in before[name].items() if now[name].get(pool, 0) < rooms}
        only_less = all(rooms <= before[name].get(pool, 0) for pool, rooms in now[name].items())
        if not (given & taken or (entry.relaxed and only_less)):
            moved.append(name)
    return moved
