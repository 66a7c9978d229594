"""Play faults on real processes under load, and print what clients noticed.

    python -m tests.faults.matrix [--quick] [--seed N] [--rows single,pairs,...]

Exit status: how many of the goals were missed.
"""

import argparse
import asyncio
import contextlib
import os
import sys
import time
from pathlib import Path
from random import Random

import uvloop

from tests.faults.matrix import report
from tests.faults.matrix.cells import Matrix, Runner, pairs, singles
from tests.faults.matrix.clients import CLIENTS, Load
from tests.faults.matrix.faults import Maker, kill_gateway, kill_region, kill_replica
from tests.faults.matrix.recorder import Recorder
from tests.faults.matrix.world import DEPLOYMENTS, world
from tests.support.state_folder import state_folder

ROWS = ("single", "pairs")


def say(text: str) -> None:
    """At once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def play(cells: list[tuple[Maker, ...]], seed: int, state: Path, *, tell: bool) -> Matrix:
    """All cells on one system."""
    async with world(state) as made:
        load = Load(made.doors(), made.system.endpoints()["api_key"], tuple(DEPLOYMENTS), seed)
        recorder = Recorder(made)
        watching = asyncio.create_task(recorder.watch())
        runner = Runner(made, load, recorder, Random(seed))
        load.start()
        try:
            await asyncio.sleep(3.0)
            say(report.CELL_HEAD)
            for makers in cells:
                cell = await runner.play(makers)
                if cell is None:
                    continue
                say(report.cell_row(cell))
                for each in cell.figures.failures if tell else []:
                    say(f"  {each}")
                for wrong in cell.findings.all()[:5]:
                    say(f"wrong: {wrong}")
        finally:
            await load.stop()
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        return await runner.finish()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.matrix",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="three faults: a minute")
    parser.add_argument(
        "--seed", type=int, default=1, help="the same seed chooses the same faults (default 1)"
    )
    parser.add_argument("--rows", default=",".join(ROWS), help=f"which of {', '.join(ROWS)} (default all)")
    parser.add_argument("--tell", action="store_true", help="each first try that failed, in words")
    parser.add_argument(
        "--only", default="", help="only cells with a fault of these names, like kill_region,disk_full"
    )
    options = parser.parse_args(arguments)
    rows = options.rows.split(",")
    if unknown := set(rows) - set(ROWS):
        parser.error(f"--rows: no row {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    began_s, measures = time.monotonic(), []
    say(
        f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}, {CLIENTS} clients, seed {options.seed}\n"
    )
    cells: list[tuple[Maker, ...]] = []
    if options.quick:
        cells = [(kill_replica,), (kill_gateway,), (kill_region,)]
    else:
        cells += singles() if "single" in rows else []
        cells += pairs(Random(options.seed)) if "pairs" in rows else []
    if options.only:
        wanted = set(options.only.split(","))
        cells = [cell for cell in cells if any(maker.__name__ in wanted for maker in cell)]
    if cells:
        with state_folder("var") as state:
            matrix = uvloop.run(play(cells, options.seed, state, tell=options.tell))
        for wrong in matrix.findings.all():
            say(f"wrong: {wrong}")
        for left_out in matrix.left_out:
            say(f"left out, this machine can't make it: {left_out}")
        say(
            f"\n{matrix.requests:,} requests, {matrix.logged:,} logged by gateways; the pair's serving region changed "
            f"{matrix.turned} times, moved {matrix.moves} times by the control plane"
        )
        measures += report.of_matrix(matrix)
    say(report.goals(measures))
    say(f"{time.monotonic() - began_s:.0f} s, load average {os.getloadavg()[0]:.1f}")
    return sum(each.met is False for each in measures)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        raise SystemExit(main(sys.argv[1:]))
