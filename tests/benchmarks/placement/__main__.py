"""Measure placement: how good, how fast, beside other systems' policies.

    python -m tests.benchmarks.placement [--quick] [--rows fleet,peers] [--seeds 3] [--cpu] [--json FILE]

The exit status is the number of rows in which something failed; a missed goal is told, and no failure.
"""

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path

from tests.benchmarks.goals import Row, machine, summary, table
from tests.benchmarks.placement.rows import ROWS, Extent


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one seed, no search beyond 20 s: a few minutes")
    parser.add_argument("--rows", default=",".join(ROWS), help=f"which of {', '.join(ROWS)} (default all)")
    parser.add_argument("--seeds", type=int, help="instances of which the median is told (default 3)")
    parser.add_argument(
        "--cpu",
        action="store_true",
        help="count a search's seconds in CPU time, on a machine that does other work",
    )
    parser.add_argument("--json", type=Path, help="write everything that was measured here too")
    options = parser.parse_args()
    wanted = options.rows.split(",")
    unknown = sorted(set(wanted) - set(ROWS))
    if unknown:
        sys.exit(f"--rows: no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    extent = Extent(
        seeds=options.seeds or (1 if options.quick else 3),
        quick=options.quick,
        in_cpu_time=options.cpu,
    )
    began = machine()
    sys.stdout.write(f"{began['cpu']}, {began['cores']} cores, load average {began['load_average']:.2f}\n")
    sys.stdout.flush()
    rows: list[Row] = []
    for name in wanted:
        began_s = time.monotonic()
        rows.append(ROWS[name](extent))
        sys.stdout.write(table(rows[-1]) + f"({time.monotonic() - began_s:.0f} s)\n")
        sys.stdout.flush()
        if options.json:
            told = {"machine": began, "rows": [dataclasses.asdict(row) for row in rows]}
            options.json.write_text(json.dumps(told, indent=1) + "\n")
    sys.stdout.write(summary(rows))
    return sum(bool(row.faults) for row in rows)


if __name__ == "__main__":
    sys.exit(main())
