"""How fast requests are simulated, on one core: the picker, the waiting room and the autoscaler are production's.

    python -m tests.benchmarks.bench_simulation

By request for deployments of three sizes, the sum of two weeks as a fluid, and a trace read from rows.
"""

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from controlplane.simulation.serving.playing import Play
from controlplane.simulation.serving.trace import Trace
from controlplane.simulation.serving.world import ServingWorld, Survey, survey
from controlplane.simulation.serving.world_document import world_of

GOAL_PER_S = 20_000
FLUID_GOAL_S = 60.0
#: Replicas that the mean load keeps busy, and the hours that are played.
SIZES = ((4, 2.0), (16, 1.0), (64, 0.25))
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


def main() -> int:
    """1 if a goal was missed."""
    missed = 0
    sys.stdout.write("| | requests | CPU s | requests/s | goal |\n|---|---:|---:|---:|---|\n")
    for policy in ("kpa", "predictive"):
        for replicas, hours in SIZES:
            world = world_of(document(replicas, hours, "request"))
            seen = _whole(world)
            took_s, _ = timed(Play(world, seen, policy, lambda _: ()).run)
            per_s = seen.requests / took_s
            met = per_s >= GOAL_PER_S
            missed += not met
            sys.stdout.write(
                f"| by request, {replicas} replicas busy, {policy} | {seen.requests:,} | {took_s:.1f} | {per_s:,.0f} | "
                f"{GOAL_PER_S:,} ({'met' if met else 'missed'}) |\n"
            )
        two_weeks = {**document(12, 24 * 14, "fluid"), "decide_every_s": 5}
        world = world_of(two_weeks)
        read_s, seen = timed(partial(_whole, world))
        took_s, _ = timed(Play(world, seen, policy, lambda _: ()).run)
        met = read_s + took_s <= FLUID_GOAL_S
        missed += not met
        sys.stdout.write(
            f"| 14 days as a fluid, {policy} (made {read_s:.1f} s, played {took_s:.1f} s) | {seen.requests:,} | "
            f"{read_s + took_s:.1f} | {seen.requests / (read_s + took_s):,.0f} | {FLUID_GOAL_S:.0f} s "
            f"({'met' if met else 'missed'}) |\n"
        )
    took_s, rows = timed(lambda: sum(map(len, Trace(lines(), form="csv"))))
    sys.stdout.write(f"| a trace read (CSV) | {rows:,} | {took_s:.1f} | {rows / took_s:,.0f} | |\n")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
