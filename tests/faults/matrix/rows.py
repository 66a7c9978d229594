"""The rows: what each plays. One that breaks off is a missed goal, and keeps no other from being played."""

import asyncio
import subprocess
import sys
import traceback
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

from tests.faults.matrix import measures, peers, report
from tests.faults.matrix.cells import Cell, Matrix, Runner, pairs, singles
from tests.faults.matrix.clients import Load
from tests.faults.matrix.faults import ALONE, Fault, Maker, Scene
from tests.faults.matrix.faults.processes import (
    kill_control_plane,
    kill_gateway,
    kill_region,
    kill_replica,
)
from tests.faults.matrix.leftovers import end_leftovers
from tests.faults.matrix.recorder import Recorder
from tests.faults.matrix.report import Measure
from tests.faults.matrix.world import DEPLOYMENTS, world
from tests.support.state_folder import state_folder

ROWS = ("pairs", "single", "away", "lost", "return", "ejection", "peers")
#: What is played where nothing is asked for. Pairs have every fault; by themselves those take six minutes more.
USUAL = tuple(row for row in ROWS if row != "single")
QUICK: tuple[tuple[Maker, ...], ...] = ((kill_replica,), (kill_gateway,), (kill_region,))
_PEERS_HOLD_S = 12.0
_SYSTEM = "single, pairs, away"
#: What a row takes beside what it is told to play, on the safe side for an idle machine of two cores.
_AROUND_S = {"away": 30.0, "lost": 0.0, "return": 60.0, "ejection": 20.0, "peers": 200.0}
_RUN_S, _DOWN_S = 17.0, 40.0


def say(text: str) -> None:
    """At once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@dataclass(frozen=True)
class Options:
    """What to play. ``deadline_s``: monotonic, when all has to be over; what is left out is told."""

    rows: tuple[str, ...]
    seed: int
    quick: bool
    only: frozenset[str]
    tell: bool
    runs: int
    minutes: float
    away_s: float
    deadline_s: float
    began_s: float = field(default_factory=monotonic)

    def cells(self) -> list[tuple[Maker, ...]]:
        """Pairs first, and what is in no pair; then every fault by itself."""
        if self.quick:
            return list(QUICK)
        chosen: list[tuple[Maker, ...]] = []
        if "pairs" in self.rows:
            chosen += [*pairs(Random(self.seed)), *((maker,) for maker in ALONE)]
        if "single" in self.rows:
            chosen += [cell for cell in singles() if cell not in chosen]
        return [cell for cell in chosen if not self.only or {maker.__name__ for maker in cell} & self.only]

    @property
    def cells_until_s(self) -> float:
        """So that the rows after them have their time."""
        given_s = {"away": self.away_s, "lost": self.runs * _RUN_S, "ejection": 60 * self.minutes}
        rest_s = sum(given_s.get(row, 0.0) + _AROUND_S[row] for row in self.rows if row in _AROUND_S)
        return self.deadline_s - rest_s - _DOWN_S


async def measured(options: Options) -> list[Measure]:
    """All rows that are asked for, in their order."""
    rows: dict[str, Callable[[], Coroutine[Any, Any, list[Measure]]]] = {}
    if options.quick or {"single", "pairs", "away"} & set(options.rows):
        rows[_SYSTEM] = lambda: _system(options)
    rows |= {
        row: play
        for row, play in {
            "lost": lambda: measures.lost_region(options.runs, say),
            "return": measures.region_returns,
            "ejection": lambda: measures.false_ejections(options.minutes, options.seed),
            "peers": _side_by_side,
        }.items()
        if row in options.rows
    }
    found: list[Measure] = []
    for name, play in rows.items():
        # The system's cells end in time by themselves, and what they have shown is to be judged.
        limit_s = None if name == _SYSTEM else options.deadline_s - monotonic()
        found += await _guarded(name, play, limit_s)
    return found


async def _guarded(
    name: str, play: Callable[[], Coroutine[Any, Any, list[Measure]]], limit_s: float | None
) -> list[Measure]:
    """Broken off when its time is over too."""
    try:
        async with asyncio.timeout(limit_s):
            return await play()
    except TimeoutError:
        return [Measure(f"row {name}", "played", "there was no time for it", met=False)]
    except Exception as error:
        say(traceback.format_exc())
        return [broke_off(name, error)]


def broke_off(name: str, error: Exception) -> Measure:
    """A row that was not played to its end."""
    said = str(error).splitlines() or [""]
    return Measure(f"row {name}", "played", f"broke off: {type(error).__name__} {said[0][:120]}", met=False)


async def _system(options: Options) -> list[Measure]:
    """All that is played on one whole system, of which nothing is left behind."""
    with state_folder("var") as state:
        try:
            found = await _play(options, state)
        finally:
            left = await asyncio.to_thread(end_leftovers, state.parent)
            for each in left:
                say(f"left behind, and ended now: {each}")
    return [*found, Measure("processes and mounts left behind", "0", str(len(left)), not left)]


async def _play(options: Options, state: Path) -> list[Measure]:
    """All cells on one system, and the control plane's absence last. What was played is judged whatever ends it."""
    found: list[Measure] = []
    async with world(state) as made:
        load = Load(made.doors(), made.system.endpoints()["api_key"], tuple(DEPLOYMENTS), options.seed)
        recorder = Recorder(made)
        watching = asyncio.create_task(recorder.watch())
        runner = Runner(made, load, recorder, Random(options.seed))
        load.start()
        try:
            found += await _cells(options, runner)
        except Exception as error:
            say(traceback.format_exc())
            found.append(broke_off(_SYSTEM, error))
        finally:
            await load.stop()
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        matrix = await runner.finish()
    _tell_all(matrix)
    return [*report.of_matrix(matrix), *found]


async def _cells(options: Options, runner: Runner) -> list[Measure]:
    """One after the other, as far as there is time."""
    await runner.settle()
    say(report.CELL_HEAD)
    unplayed = []
    for makers in options.cells():
        if monotonic() > options.cells_until_s:
            unplayed.append(" and ".join(maker.__name__ for maker in makers))
            continue
        _tell(await runner.play(makers), in_words=options.tell)
    for name in unplayed:
        say(f"not played, there was no time for it: {name}")
    found = [Measure("faults that there was no time for", "0", str(len(unplayed)), not unplayed)]
    if "away" not in options.rows:
        return found
    away = await runner.play((_away_for(options.away_s),))
    _tell(away, in_words=options.tell)
    return [*found, *(report.of_absence(away, options.away_s) if away else [])]


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


async def _side_by_side() -> list[Measure]:
    """A table of its own. Without the peers nothing is missed, and it is said."""
    try:
        await asyncio.to_thread(peers.python)
    except (OSError, subprocess.CalledProcessError) as error:
        say(f"the peers can't be installed: {error}")
        return []
    await measures.side_by_side(peers.NAMES, _PEERS_HOLD_S, say)
    return []
