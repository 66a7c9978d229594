"""How long a decision takes, for one deployment and for a thousand."""

import statistics
import time
from random import Random

from tests.benchmarks.goals import Goal, Row
from tests.benchmarks.scaling.policies import PREDICTIVE
from workloadplane.autoscaling import Seen, SloSeen, WorkSeen

DEPLOYMENTS = 1000
ROUNDS = 60


def decide_row() -> Row:
    """Warm scalers, each with its own load, ten seconds apart; CPU time, as others may use the machine."""
    rng = Random(1)
    make = PREDICTIVE.variants[0].make(1.0)
    scalers = [make(5) for _ in range(DEPLOYMENTS)]
    all_ms: list[float] = []
    one_us: list[float] = []
    for turn in range(1, ROUNDS + 1):
        seen = [_seen(10.0 * turn, rng) for _ in scalers]
        began_s = time.thread_time()
        for scaler, what in zip(scalers, seen, strict=True):
            scaler.step(what)
        all_ms.append((time.thread_time() - began_s) * 1e3)
        began_s = time.thread_time()
        scalers[0].step(_seen(10.0 * turn + 5.0, rng))
        one_us.append((time.thread_time() - began_s) * 1e6)
    row = Row("decide", "decide(), predictive", ("median_us", "decide_ms"))
    row.figures["one deployment"] = {
        "median_us": statistics.median(one_us),
        "decide_ms": max(one_us[10:]) / 1e3,
    }
    row.figures["1,000 deployments"] = {"decide_ms": statistics.median(all_ms[10:])}
    row.goals += [
        Goal("one deployment ≤ 1 ms (slowest of 50)", max(one_us[10:]) / 1e3, 1.0),
        Goal("1,000 deployments ≤ 50 ms (median)", statistics.median(all_ms[10:]), 50.0),
    ]
    return row


def _seen(now: float, rng: Random) -> Seen:
    return Seen(
        now=now,
        ready=5,
        starting=rng.randrange(2),
        concurrency=4.0,
        work=WorkSeen(arrived_s=rng.uniform(30.0, 50.0), over_s=10.0, waiting_s=rng.random()),
        slo=SloSeen(inside=100.0, outside=float(rng.random() < 0.05)),
        cold_start_s=180.0,
    )
