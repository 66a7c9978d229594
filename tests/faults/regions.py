"""``python -m tests.faults.regions [SCHEDULES] [FIRST SEED]``: random faults among observers, on virtual time.

Exit status 1 if a rule did not hold; each such seed is told, and ``--replay SEED`` plays it again and tells all of it.
"""

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from controlplane.simulation.regions import play, schedule_of

_BATCH = 250


def main(arguments: list[str]) -> int:
    """Play them, on all processors; what was wrong, and how much happened."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.regions", description=__doc__)
    parser.add_argument("schedules", type=int, nargs="?", default=2_000)
    parser.add_argument("first_seed", type=int, nargs="?", default=0)
    parser.add_argument(
        "--replay", type=int, metavar="SEED", help="play one schedule and tell all that happens"
    )
    given = parser.parse_args(arguments)
    if given.replay is not None:
        return _replay(given.replay)
    began_s, counts, wrong, owed = time.monotonic(), Counter[str](), 0, 0
    firsts = range(given.first_seed, given.first_seed + given.schedules, _BATCH)
    end = given.first_seed + given.schedules
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for events, found, failures in pool.map(
            _batch, firsts, [min(first + _BATCH, end) for first in firsts]
        ):
            counts += events
            owed += found
            wrong += len(failures)
            for line in failures:
                sys.stdout.write(line + "\n")
    sys.stdout.write(
        f"{given.schedules} schedules from seed {given.first_seed}, {wrong} wrong, "
        f"{time.monotonic() - began_s:.0f} s; {owed} times a loss had to be found; "
        f"changes of state: {dict(counts.most_common())}\n"
    )
    return 1 if wrong else 0


def _batch(first: int, end: int) -> tuple[Counter[str], int, list[str]]:
    """Events that changed a state, losses that had to be found, and what was wrong."""
    events, owed, failures = Counter[str](), 0, []
    for seed in range(first, end):
        played = play(seed)
        events.update(change.transition.event for _, _, change in played.changes)
        owed += played.owed
        if played.wrong:
            failures.append(f"seed {seed}: {'; '.join(played.wrong)}")
    return events, owed, failures


def _replay(seed: int) -> int:
    schedule, played = schedule_of(seed), play(seed)
    sys.stdout.write(f"{schedule.regions} regions\n")
    for fault in schedule.faults:
        target = f"{fault.region} to {fault.other}" if fault.other >= 0 else str(fault.region)
        sys.stdout.write(f"  {fault.from_s:6.2f} ... {fault.to_s:.2f} s  {fault.kind} {target}\n")
    for at_s, observer, change in played.changes:
        after, count = change.transition.after, change.tally
        sys.stdout.write(
            f"  {at_s:6.2f} s  {observer} of {change.name}: {change.transition.event} -> {after.state} "
            f"(rung {after.rung}; {after.cause or 'sound'}; lost to {count.lost} of {count.observers})\n"
        )
    for one in played.wrong:
        sys.stdout.write(f"wrong {one}\n")
    return 1 if played.wrong else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
