"""``python -m tests.faults.matrix.pauser``: processes stop for a moment, as in a garbage collection, and no longer.

Each line on its standard input is a process id and seconds; each line that it answers, for how long that process stood.
A process of its own, for whoever has clients to serve wakes late; before all others, where we may say so.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator

_WAKES_LATE_S = 0.001


class Pauser:
    """One that runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def pause(self, pid: int, seconds: float) -> float:
        """For how long it stood in truth. One pause at a time."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{pid} {seconds}\n".encode())
        return float(await self._process.stdout.readline())


@contextlib.asynccontextmanager
async def pauser() -> AsyncIterator[Pauser]:
    """Until the block ends. Nobody is left stopped."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield Pauser(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


def _pause(pid: int, seconds: float) -> float:
    os.kill(pid, signal.SIGSTOP)
    began_s = time.monotonic()
    try:
        time.sleep(max(0.0, seconds - _WAKES_LATE_S))
    finally:
        os.kill(pid, signal.SIGCONT)
    return time.monotonic() - began_s


def main() -> None:
    """Until its input ends; signals that end its parent do not end it in the middle of a pause."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    for line in sys.stdin:
        pid, seconds = line.split()
        sys.stdout.write(f"{_pause(int(pid), float(seconds))}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
