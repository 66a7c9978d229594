"""Play faults on real processes under load, and print what clients noticed.

    python -m tests.faults.matrix [--quick] [--seed N] [--rows pairs,single,away,lost,return,ejection,peers]

pairs          each two kinds of faults together, every fault in one of them
single         every fault by itself (not played unless it is asked for)
away           the control plane dead for ``--away-s``
lost           a region frozen, back, and killed, ``--runs`` times
return         what clients notice while a region returns: errors, and the first token's P99
ejection       ``--minutes`` of slow requests and pauses, in which nobody may be put out
peers          this gateway, SkyServe's balancer and Envoy lose the same replica (installs them at first)

Exit status: 0 all goals met, 1 one or more missed (a row that broke off or was not played to its end is one), 2 wrong
usage, 130 ended by a signal. Whatever ends it, what it has started is ended too.
"""

import argparse
import asyncio
import os
import signal
import sys
from time import monotonic

import uvloop

from tests.faults.matrix import report
from tests.faults.matrix.clients import CLIENTS
from tests.faults.matrix.report import Measure
from tests.faults.matrix.rows import ROWS, USUAL, Options, measured, say

_ENDED_BY_SIGNAL = 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.matrix",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    given = parser.add_argument
    given("--quick", action="store_true", help="three faults alone: a minute")
    given("--seed", type=int, default=1, help="the same seed chooses the same faults (default 1)")
    given("--rows", default=",".join(USUAL), help="which, separated by commas (default all but single)")
    given("--only", default="", help="only cells with one of these faults, like kill_region,disk_full")
    given("--tell", action="store_true", help="each first try that failed, and what was waited for")
    given("--runs", type=int, default=5, help="of the lost region (default 5)")
    given("--minutes", type=float, default=0.5, help="in which nobody may be put out (default 0.5)")
    given("--away-s", type=float, default=20.0, help="of the control plane (default 20)")
    given(
        "--within-s",
        type=float,
        default=1200.0,
        help="for all of it: faults for which there is no time are left out, and told (default 1200)",
    )
    return parser


def _options(arguments: list[str]) -> Options:
    parser = _parser()
    given = parser.parse_args(arguments)
    rows = () if given.quick else tuple(given.rows.split(","))
    if unknown := sorted(set(rows) - set(ROWS)):
        parser.error(f"--rows: no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    return Options(
        rows=rows,
        seed=given.seed,
        quick=given.quick,
        only=frozenset(filter(None, given.only.split(","))),
        tell=given.tell,
        runs=given.runs,
        minutes=given.minutes,
        away_s=given.away_s,
        deadline_s=monotonic() + given.within_s,
    )


async def _until_told(options: Options) -> list[Measure]:
    """SIGTERM ends it as Ctrl-C does: everything is taken down first."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await measured(options)


def main(arguments: list[str]) -> int:
    """The exit status."""
    options = _options(arguments)
    say(
        f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}, {CLIENTS} clients, seed {options.seed}\n"
    )
    try:
        found = uvloop.run(_until_told(options))
    except (KeyboardInterrupt, asyncio.CancelledError):
        say("ended by a signal; what was started is ended")
        return _ENDED_BY_SIGNAL
    say(report.goals(found))
    missed = [each.name for each in found if each.met is False]
    say(f"{monotonic() - options.began_s:.0f} s, load average {os.getloadavg()[0]:.1f}")
    say(f"missed: {'; '.join(missed)}" if missed else "all goals met")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
