"""Play faults on real processes under load, and print what clients noticed.

    python -m tests.faults.matrix [--quick] [--seed N] [--rows single,pairs,away,lost,return,ejection,peers]

single, pairs  every fault by itself, and each two kinds of them together (a quarter of an hour)
away           the control plane dead for ``--away-s``
lost           a region frozen, back, and killed, ``--runs`` times
return         what clients notice while a region returns
ejection       ``--minutes`` of slow requests and pauses, in which nobody may be put out
peers          this gateway, SkyServe's balancer and Envoy lose the same replica (installs them at first)

Exit status: how many of the goals were missed.
"""

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from random import Random

import uvloop

from tests.faults.matrix import measures, peers, report
from tests.faults.matrix.cells import Cell, Matrix, Runner, pairs, singles
from tests.faults.matrix.clients import CLIENTS, Load
from tests.faults.matrix.faults import Fault, Maker, Scene
from tests.faults.matrix.faults.processes import (
    kill_control_plane,
    kill_gateway,
    kill_region,
    kill_replica,
)
from tests.faults.matrix.recorder import Recorder
from tests.faults.matrix.report import Measure
from tests.faults.matrix.world import DEPLOYMENTS, world
from tests.support.state_folder import state_folder

ROWS = ("single", "pairs", "away", "lost", "return", "ejection", "peers")
QUICK: tuple[tuple[Maker, ...], ...] = ((kill_replica,), (kill_gateway,), (kill_region,))
_PEERS_HOLD_S = 12.0


def say(text: str) -> None:
    """At once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def play(options: argparse.Namespace, cells: list[tuple[Maker, ...]], state: Path) -> list[Measure]:
    """All cells on one system, and the control plane's absence last."""
    async with world(state) as made:
        load = Load(made.doors(), made.system.endpoints()["api_key"], tuple(DEPLOYMENTS), options.seed)
        recorder = Recorder(made)
        watching = asyncio.create_task(recorder.watch())
        runner = Runner(made, load, recorder, Random(options.seed))
        load.start()
        away: Cell | None = None
        try:
            await runner.settle()
            say(report.CELL_HEAD)
            for makers in cells:
                _tell(await runner.play(makers), in_words=options.tell)
            if "away" in options.rows:
                away = await runner.play((_away_for(options.away_s),))
                _tell(away, in_words=options.tell)
        finally:
            await load.stop()
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        matrix = await runner.finish()
    _tell_all(matrix)
    return [*report.of_matrix(matrix), *(report.of_absence(away, options.away_s) if away else [])]


def _away_for(away_s: float) -> Maker:
    def gone(scene: Scene) -> Fault:
        fault = kill_control_plane(scene)
        return replace(fault, name=f"control plane away for {away_s:g} s", hold_s=away_s)

    return gone


def _tell(cell: Cell | None, *, in_words: bool) -> None:
    if cell is None:
        return
    say(report.cell_row(cell))
    if in_words:
        for what, until_s in cell.waited_for.items():
            say(f"  until {until_s:.1f} s: {what}")
        for each in cell.figures.failures:
            say(f"  {each}")
    for wrong in cell.findings.all()[:5]:
        say(f"wrong: {wrong}")


def _tell_all(matrix: Matrix) -> None:
    for wrong in matrix.findings.all():
        say(f"wrong: {wrong}")
    for left_out in matrix.left_out:
        say(f"left out, this machine can't make it: {left_out}")
    say(
        f"\n{len(matrix.cells)} cells, {matrix.requests:,} requests, {matrix.logged:,} logged by gateways; serving the "
        f"pair went {matrix.turned} times from one to another, moved by the control plane {matrix.moves} times"
    )


def _side_by_side() -> None:
    try:
        peers.python()
    except (OSError, subprocess.CalledProcessError) as error:
        say(f"the peers can't be installed: {error}")
        return
    uvloop.run(measures.side_by_side(peers.NAMES, _PEERS_HOLD_S, say))


def measured(options: argparse.Namespace) -> list[Measure]:
    """All rows that are asked for, in their order."""
    cells: list[tuple[Maker, ...]] = []
    cells += singles() if "single" in options.rows else []
    cells += pairs(Random(options.seed)) if "pairs" in options.rows else []
    if options.only:
        cells = [cell for cell in cells if {maker.__name__ for maker in cell} & set(options.only.split(","))]
    if options.quick:
        cells = list(QUICK)
    found: list[Measure] = []
    if cells or "away" in options.rows:
        with state_folder("var") as state:
            found += uvloop.run(play(options, cells, state))
    if "lost" in options.rows:
        found += uvloop.run(measures.lost_region(options.runs, say))
    if "return" in options.rows:
        found += uvloop.run(measures.region_returns())
    if "ejection" in options.rows:
        found += uvloop.run(measures.false_ejections(options.minutes, options.seed))
    if "peers" in options.rows:
        _side_by_side()
    return found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.matrix",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="three faults alone: a minute")
    parser.add_argument(
        "--seed", type=int, default=1, help="the same seed chooses the same faults (default 1)"
    )
    parser.add_argument("--rows", default=",".join(ROWS), help="which, separated by commas (default all)")
    parser.add_argument(
        "--only", default="", help="only cells with one of these faults, like kill_region,disk_full"
    )
    parser.add_argument(
        "--tell", action="store_true", help="each first try that failed, and what was waited for"
    )
    parser.add_argument("--runs", type=int, default=20, help="of the lost region (default 20)")
    parser.add_argument(
        "--minutes", type=float, default=5.0, help="in which nobody may be put out (default 5)"
    )
    parser.add_argument("--away-s", type=float, default=60.0, help="of the control plane (default 60)")
    options = parser.parse_args(arguments)
    options.rows = () if options.quick else tuple(options.rows.split(","))
    if unknown := sorted(set(options.rows) - set(ROWS)):
        parser.error(f"--rows: no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    began_s = time.monotonic()
    say(
        f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}, {CLIENTS} clients, seed {options.seed}\n"
    )
    found = measured(options)
    say(report.goals(found))
    say(f"{time.monotonic() - began_s:.0f} s, load average {os.getloadavg()[0]:.1f}")
    return sum(each.met is False for each in found)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        raise SystemExit(main(sys.argv[1:]))
