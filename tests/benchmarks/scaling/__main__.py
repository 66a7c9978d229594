"""Measure scaling: replica-hours, SLO and launches of every policy, side by side, on traces of production.

    python -m tests.benchmarks.scaling [--quick] [--rows servegen,steps] [--data FOLDER] [--json FILE]

The exit status is the number of rows in which something failed; a missed goal is told, and no failure.
"""

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path

from tests.benchmarks.goals import Row, machine, summary, table
from tests.benchmarks.scaling.rows import ROWS, Extent

DATA = Path("../shared/data")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one model, one cold start: a few minutes")
    parser.add_argument("--rows", default=",".join(ROWS), help=f"which of {', '.join(ROWS)} (default all)")
    parser.add_argument("--data", type=Path, default=DATA, help=f"folder of the traces (default {DATA})")
    parser.add_argument("--json", type=Path, help="write everything that was measured here too")
    parser.add_argument("--models", help="which of ServeGen's models, m-mid or m-small (default both)")
    parser.add_argument("--cold-starts", help="seconds, by commas (default 60,180,480)")
    options = parser.parse_args()
    wanted = options.rows.split(",")
    unknown = sorted(set(wanted) - set(ROWS))
    if unknown:
        sys.exit(f"--rows: no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    if not options.data.is_dir():
        sys.exit(f"--data: no folder {options.data}; give the one with servegen/, azure2023/ and mooncake/")
    extent = Extent.of(options.data, quick=options.quick)
    if options.models:
        extent = dataclasses.replace(extent, models=tuple(options.models.split(",")))
    if options.cold_starts:
        seconds = tuple(float(value) for value in options.cold_starts.split(","))
        extent = dataclasses.replace(extent, cold_starts_s=seconds)
    began = machine()
    sys.stdout.write(f"{began['cpu']}, {began['cores']} cores, load average {began['load_average']:.2f}\n")
    sys.stdout.flush()
    rows: list[Row] = []
    for name in wanted:
        began_s = time.monotonic()
        for row in ROWS[name](extent):
            rows.append(row)
            sys.stdout.write(table(row) + f"({time.monotonic() - began_s:.0f} s)\n")
            sys.stdout.flush()
            began_s = time.monotonic()
        if options.json:
            told = {"machine": began, "rows": [dataclasses.asdict(row) for row in rows]}
            options.json.write_text(json.dumps(told, indent=1) + "\n")
    sys.stdout.write(summary(rows))
    return sum(bool(row.faults) for row in rows)


if __name__ == "__main__":
    sys.exit(main())
