"""How fast requests are simulated, on one core: the picker, the waiting room and the autoscaler are production's.

    python -m tests.benchmarks.bench_simulation [requests] [fluid] [trace] [fleet]

By request for deployments of three sizes, the sum of two weeks as a fluid, a trace read from rows, and a day of a
thousand clusters. CPU seconds of one thread.
"""

import resource
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from controlplane.simulation.serving.fleet_mode import DURING_S, FleetMode
from controlplane.simulation.serving.fleet_world import fleet_world
from controlplane.simulation.serving.playing import Play
from controlplane.simulation.serving.trace import Trace
from controlplane.simulation.serving.world import ServingWorld, Survey, survey
from controlplane.simulation.serving.world_document import world_of

GOAL_PER_S = 20_000
FLUID_GOAL_S = 60.0
FLEET_GOAL_S = 900.0
FLEET_OUTSIDE, FLEET_DURING = 0.999, 0.99
#: Replicas that the mean load keeps busy, and the hours that are played.
SIZES = ((4, 1.0), (16, 0.25), (64, 0.1))
ROWS = 1_000_000


def document(replicas: float, hours: float, mode: str) -> dict[str, Any]:
    """A wave and bursts around so many busy replicas of 16 seats; a request is about 5.3 s of a seat."""
    per_s = replicas * 16 / 5.3
    return {
        "name": "bench",
        "seed": 1,
        "hours": hours,
        "mode": mode,
        "arrivals": [
            {"kind": "daily", "requests_per_s": per_s * 0.8, "swing": 0.4},
            {"kind": "gamma", "requests_per_s": per_s * 0.2, "cv": 4},
        ],
        "lengths": {"input": {"mean": 900, "cv": 1}, "output": {"mean": 200, "cv": 1}},
        "service": {
            "seats": 16,
            "prefill_s_per_token": 0.00005,
            "itl_base_s": 0.02,
            "itl_s_per_request": 0.0004,
        },
        "cold_start": {"engine_start": {"mean_s": 180, "cv": 0.2}},
        "pools": [
            {"name": "a", "procurement": "on_demand", "replicas": int(replicas * 4), "usd_per_replica_h": 4}
        ],
        "autoscaling": {"min_replicas": int(replicas), "max_replicas": int(replicas * 4)},
        "gateway": {"hold_requests_max": 1_000_000},
    }


def timed(act: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of this thread, and what came of it."""
    began = time.thread_time()
    found = act()
    return time.thread_time() - began, found


def _whole(world: ServingWorld) -> Survey:
    *_, seen = survey(world, lambda _: ())
    return seen


def lines() -> Iterator[str]:
    """A trace of a million rows."""
    yield "timestamp,input_tokens,output_tokens\n"
    for number in range(ROWS):
        yield f"{number * 0.05:.3f},{number % 4000},{number % 700}\n"


def row(what: str, count: int, took_s: float, goal: str, *, met: bool) -> bool:
    """One line of the table; whether its goal is met."""
    verdict = f"{goal} ({'met' if met else 'missed'})" if goal else ""
    sys.stdout.write(f"| {what} | {count:,} | {took_s:.1f} | {count / took_s:,.0f} | {verdict} |\n")
    sys.stdout.flush()
    return met


def by_request(policy: str) -> bool:
    """Three sizes."""
    met = True
    for replicas, hours in SIZES:
        world = world_of(document(replicas, hours, "request"))
        seen = _whole(world)
        took_s, _ = timed(Play(world, seen, policy, lambda _: ()).run)
        kept = seen.requests / took_s >= GOAL_PER_S
        what = f"requests one by one, {replicas} replicas busy, {policy}"
        met &= row(what, seen.requests, took_s, f"{GOAL_PER_S:,}/s", met=kept)
    return met


def as_fluid(policy: str) -> bool:
    """Two weeks."""
    world = world_of({**document(12, 24 * 14, "fluid"), "decide_every_s": 5})
    made_s, seen = timed(partial(_whole, world))
    took_s, _ = timed(Play(world, seen, policy, lambda _: ()).run)
    kept = made_s + took_s <= FLUID_GOAL_S
    what = f"requests of 14 days as a fluid, {policy} (made in {made_s:.1f} s)"
    return row(what, seen.requests, made_s + took_s, f"{FLUID_GOAL_S:.0f} s", met=kept)


def fleet() -> bool:
    """A day."""
    world = fleet_world(1)
    took_s, outcome = timed(lambda: FleetMode(world).play())
    sizes = ", ".join(f"{count:,} {what}" for what, count in world.sizes.items())
    in_time = took_s <= FLEET_GOAL_S
    row(f"decisions of a day of {sizes}", outcome.decisions, took_s, f"{FLEET_GOAL_S:.0f} s", met=in_time)
    kept = outcome.within_slo_outside >= FLEET_OUTSIDE and outcome.within_slo_during >= FLEET_DURING
    rss_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(
        f"\nThe fleet ({'met' if kept else 'missed'}: {100 * FLEET_OUTSIDE:g} and {100 * FLEET_DURING:g} %): "
        f"{100 * outcome.within_slo_outside:.3f} % of the work within the SLO outside of losses, "
        f"{100 * outcome.within_slo_during:.3f} % in the {DURING_S / 60:.0f} minutes after one "
        f"({100 * outcome.within_slo_hit:.3f} % of the deployments that had something there); "
        f"placement asked {outcome.solves} times, {outcome.placed_anew:,} deployments placed anew, "
        f"{outcome.refused} refused and {outcome.relaxed} without a wish at the end; "
        f"{outcome.launches:,} launches, {outcome.failed_launches:,} decisions that found no room, "
        f"{outcome.lost_replicas:,} replicas lost, {outcome.gpu_hours:,.0f} GPU-hours; "
        f"{rss_mib:.0f} MiB; rules broken: {len(outcome.broken)}.\n"
    )
    return in_time and kept and not outcome.broken


def main() -> int:
    """1 if a goal was missed."""
    wanted = sys.argv[1:] or ["requests", "fluid", "trace", "fleet"]
    met = True
    sys.stdout.write("| | count | CPU s | /s | goal |\n|---|---:|---:|---:|---|\n")
    for policy in ("kpa", "predictive"):
        if "requests" in wanted:
            met &= by_request(policy)
        if "fluid" in wanted:
            met &= as_fluid(policy)
    if "trace" in wanted:
        took_s, rows = timed(lambda: sum(map(len, Trace(lines(), form="csv"))))
        row("rows of a trace read (CSV)", rows, took_s, "", met=True)
    if "fleet" in wanted:
        met &= fleet()
    return int(not met)


if __name__ == "__main__":
    sys.exit(main())
