"""Several gateway processes as one program: they share the port, and each deployment has its queue in one of them.

The parent carries no byte. It starts the children, starts anew one that dies, passes SIGTERM on, and is ready when
all serve. A successor family takes over child by child; a child that was succeeded is not started again. If the
parent itself is killed the children finish what they have begun and end.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog

from workloadplane.gateway import ready
from workloadplane.gateway.handover import heir, lifeline

#: How a child ends whose successor serves.
SUCCEEDED = 3

_log = structlog.get_logger(__name__)
_PAUSE_S_MIN = 0.2
_PAUSE_S_MAX = 10.0
_STEADY_AFTER_S = 30.0


class Family:
    """``command``: a child's command line, without its index and port."""

    def __init__(self, command: Sequence[str], *, count: int, host: str, port: int, state_dir: Path) -> None:
        """Reserve the port. Raises OSError if it can't be had."""
        self._command = command
        self._count = count
        self._state_dir = state_dir
        self._stop = asyncio.Event()
        self._children: dict[int, asyncio.subprocess.Process] = {}
        self._lifeline, self._alive = os.pipe()
        # Bound, never listening: no connection comes here, and the port stays ours while children restart.
        self._place = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            self._place.bind((host, port))
        except OSError:
            self._place.close()
            raise
        self._port: int = self._place.getsockname()[1]

    async def run(self, *, takes_over: bool) -> int:
        """Until SIGTERM, or until all children were succeeded; the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        serving = [asyncio.Event() for _ in range(self._count)]
        keepers = [
            asyncio.create_task(self._keep(index, event, takes_over=takes_over))
            for index, event in enumerate(serving)
        ]
        telling = asyncio.create_task(self._tell(serving, takes_over=takes_over))
        try:
            failed = await asyncio.gather(*keepers)
        finally:
            telling.cancel()
            self._place.close()
            os.close(self._lifeline)
            os.close(self._alive)
        return 1 if any(failed) else 0

    def _end(self) -> None:
        self._stop.set()
        for child in self._children.values():
            if child.returncode is None:
                child.terminate()

    async def _tell(self, serving: list[asyncio.Event], *, takes_over: bool) -> None:
        for event in serving:
            await event.wait()
        if takes_over:
            await asyncio.to_thread(self._retire_others)
        _log.info("gateway processes serve", port=self._port, processes=self._count)
        ready.tell()

    def _retire_others(self) -> None:
        """A predecessor that had more processes: what is beyond our own number has no heir and ends."""
        index = self._count
        while True:
            try:
                asked = heir.ask(self._state_dir, index)
            except (OSError, ValueError):
                return
            if asked is None:
                return
            asked.confirm()
            if asked.listener is not None:
                asked.listener.close()
            index += 1

    async def _keep(self, index: int, serving: asyncio.Event, *, takes_over: bool) -> bool:
        """One child's lives. Whether it failed at its first start."""
        pause_s = _PAUSE_S_MIN
        loop = asyncio.get_running_loop()
        while not self._stop.is_set():
            began_s = loop.time()
            child, reading = await self._start(index, takes_over=takes_over)
            if await _byte(reading):
                serving.set()
            code = await child.wait()
            if code == SUCCEEDED or self._stop.is_set():
                return False
            if not serving.is_set():
                self._end()  # wrong options, a port that is taken: it would fail again and again
                return True
            _log.error("a gateway process ended", index=index, pid=child.pid, status=code)
            pause_s = (
                _PAUSE_S_MIN if loop.time() - began_s > _STEADY_AFTER_S else min(2 * pause_s, _PAUSE_S_MAX)
            )
            await self._wait(pause_s)
        return False

    async def _start(self, index: int, *, takes_over: bool) -> tuple[asyncio.subprocess.Process, int]:
        reading, writing = os.pipe()
        options = ["--port", str(self._port), "--process-index", str(index)]
        try:
            child = await asyncio.create_subprocess_exec(
                *self._command,
                *options,
                *(["--take-over"] if takes_over else []),
                env={
                    **os.environ,
                    ready.VARIABLE: str(writing),
                    lifeline.VARIABLE: str(self._lifeline),
                },
                pass_fds=(writing, self._lifeline),
                stdin=asyncio.subprocess.DEVNULL,
            )
        finally:
            os.close(writing)
        self._children[index] = child
        if self._stop.is_set():
            child.terminate()
        return child, reading

    async def _wait(self, pause_s: float) -> None:
        try:
            async with asyncio.timeout(pause_s):
                await self._stop.wait()
        except TimeoutError:
            return


async def _byte(reading: int) -> bool:
    """Whether a byte comes before the other end is closed, as it is when the child ends."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(reading, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(reading)
    try:
        return os.read(reading, 1) == b"+"
    finally:
        os.close(reading)


def child_command(arguments: Sequence[str]) -> list[str]:
    """This program again, with the options that it was given."""
    return [sys.executable, "-m", "workloadplane.gateway", *arguments]
