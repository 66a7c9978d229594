"""Starting a part beside the one that runs, to take its place without a gap.

The new process is given the write end of a pipe and puts a byte into it once it serves; the old one then ends by
itself, for the new one has told it to. A new process that ends first, or is not ready in time, has changed nothing.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable

from infra.embedded.errors import EmbeddedError

READY_VARIABLE = "MERIDIAN_READY_FD"

_READY_WITHIN_S = 30.0


async def start_successor(
    name: str, spawn: Callable[[dict[str, str], tuple[int, ...]], subprocess.Popen[bytes]]
) -> subprocess.Popen[bytes]:
    """Start it and wait until it serves. ``spawn`` gets what to add to its environment and what to leave open.

    Raises EmbeddedError when it does not come to serve; it has ended then.
    """
    reading, writing = os.pipe()
    try:
        try:
            child = spawn({READY_VARIABLE: str(writing)}, (writing,))
        finally:
            os.close(writing)
        if not await _serves(reading):
            child.send_signal(signal.SIGKILL)
            child.wait()
            raise EmbeddedError(f"the new {name} did not come to serve; the old one goes on: see its log")
    finally:
        os.close(reading)
    return child


async def _serves(reading: int) -> bool:
    """Whether the byte comes, before the pipe's other end closes with the process, and in time."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(reading, readable.set)
    try:
        async with asyncio.timeout(_READY_WITHIN_S):
            await readable.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(reading)
    return os.read(reading, 1) == b"+"
