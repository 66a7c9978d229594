"""Measure the gateway beside its peers and print the tables.

    python -m tests.benchmarks.gateway [--quick] [--rows small,latency] [--json FILE] [--no-peers] [--trace FILE]
    python -m tests.benchmarks.gateway --profile

The gateway and each peer run on the first core in turn; load and upstream share the others. The exit status is
the number of rows in which something could not be measured; a missed goal is told, and no failure.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.gateway import alone, peers, quality, report
from tests.benchmarks.gateway.candidates import cores
from tests.benchmarks.gateway.rows import ROWS, Plan
from tests.benchmarks.goals import Row, summary, table

TRACE_VARIABLE = "MERIDIAN_BENCH_TRACE"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: a minute or two")
    parser.add_argument("--runs", type=int, help="rounds, of which the median is told (default 5)")
    parser.add_argument("--seconds", type=float, help="of each round (default 2)")
    parser.add_argument(
        "--rows", help=f"which of {', '.join(ROWS)}, turns, trace (default all; trace if there is one)"
    )
    parser.add_argument("--json", type=Path, help="write everything that was measured here too")
    parser.add_argument(
        "--profile", action="store_true", help="only tell what the gateway's own code costs, and where"
    )
    parser.add_argument("--no-peers", action="store_true", help="this gateway alone; no goal is judged by it")
    parser.add_argument(
        "--trace",
        type=Path,
        default=os.environ.get(TRACE_VARIABLE),
        help=f"Mooncake's FAST'25 trace (JSON lines, Apache-2.0, kvcache-ai/Mooncake); also ${TRACE_VARIABLE}",
    )
    options = parser.parse_args()
    if options.profile:
        sys.stdout.write(alone.table())
        return 0
    rows_known: dict[str, Callable[[Plan], Row]] = {**ROWS, "turns": quality.generated}
    if options.trace:
        rows_known["trace"] = lambda plan: quality.trace(plan, options.trace)
    if options.rows is None:
        options.rows = ",".join(rows_known)
    wanted = options.rows.split(",")
    unknown = sorted(set(wanted) - set(rows_known))
    if unknown:
        sys.exit(f"--rows: no row {', '.join(unknown)}; there are {', '.join(rows_known)}")
    plan = Plan(
        cores=cores(),
        runs=options.runs or (1 if options.quick else 5),
        seconds=options.seconds or (1.0 if options.quick else 2.0),
        idle_connections=1_000 if options.quick else 10_000,
        with_peers=not options.no_peers,
    )
    if plan.with_peers:
        try:
            peers.python()
        except (OSError, subprocess.CalledProcessError) as error:
            sys.exit(f"the peers can't be installed: {error}; measure without them: --no-peers")
    began = report.machine()
    sys.stdout.write(
        f"{began['cpu']}, {began['cores']} cores, load average {began['load_average']:.2f}, peers"
        f" {began['peers']}; median of {plan.runs} rounds of {plan.seconds:g} s\n"
    )
    sys.stdout.flush()
    rows: list[Row] = []
    for name in wanted:
        began_s = time.monotonic()
        row = rows_known[name](plan)
        rows.append(row)
        sys.stdout.write(table(row) + f"({time.monotonic() - began_s:.0f} s)\n")
        sys.stdout.flush()
        if options.json:
            options.json.write_text(json.dumps(report.as_json(rows, began), indent=1) + "\n")
    sys.stdout.write(summary(rows))
    return sum(bool(row.faults) for row in rows)


if __name__ == "__main__":
    sys.exit(main())
