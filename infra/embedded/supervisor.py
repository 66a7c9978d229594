"""The supervisor: a small daemon that keeps the parts alive.

    python -m infra.embedded.supervisor STATE_DIR

It takes one JSON command a line on a unix socket (`supervisor_client` speaks it), starts each part in a
session of its own, writes down who it is, and restarts it with growing pauses when it ends unasked.

Parts write straight into their log files, not through a pipe of ours, and get no signal when we die: so a
killed supervisor stops nothing. The next one finds the living parts in ``run/parts.json`` and adopts
them; as nobody can wait for processes that aren't his children, it looks five times a second.

Logs are rotated by copying and truncating, since the parts hold the files open (for appending, so that
truncating is safe).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from infra.embedded import record
from infra.embedded.errors import EmbeddedError
from infra.embedded.faults import Faults
from infra.embedded.layout import Layout, read_json, write_private
from infra.embedded.part import PartSpec
from infra.embedded.processes import INSTANCE_VARIABLE, ProcessIdentity, group_of, stop
from infra.embedded.succession import start_successor
from infra.embedded.unix_socket import socket_address

_log = logging.getLogger("supervisor")

_PAUSE_FIRST_S = 0.5
_PAUSE_LONGEST_S = 30.0
_STEADY_AFTER_S = 30.0
_LOOK_EVERY_S = 0.2
_EXIT_WITHIN_S = 2.0
_ROTATE_EVERY_S = 5.0
_LOG_LIMIT_BYTES = 10_000_000
_LOGS_KEPT = 3
_LINE_LIMIT_BYTES = 4_000_000


def pause_s(failures_in_a_row: int) -> float:
    """Seconds to wait before the next start: 0.5, 1, 2, 4 ... 30."""
    return float(min(_PAUSE_LONGEST_S, _PAUSE_FIRST_S * 2 ** min(failures_in_a_row, 16)))


@dataclass
class _Supervised:
    spec: PartSpec
    process: ProcessIdentity | None = None
    child: subprocess.Popen[bytes] | None = None
    state: str = "starting"
    restarts: int = 0
    failures_in_a_row: int = 0
    last_exit: str = ""
    started_at: float = 0.0
    keeper: asyncio.Task[None] | None = None
    may_start: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.may_start.set()

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.spec.name,
            "state": self.state,
            "pid": self.process.pid if self.process else None,
            "restarts": self.restarts,
            "last_exit": self.last_exit,
            "uptime_s": round(time.time() - self.started_at, 1) if self.process else None,
            "probe": self.spec.probe,
        }


class Supervisor:
    """Keeps parts alive and publishes their process ids."""

    def __init__(self, layout: Layout) -> None:
        """Over one state folder, whose ``instance`` file exists."""
        self._layout = layout
        self._instance = layout.instance.read_text().strip()
        self._parts: dict[str, _Supervised] = {}
        self._ended = asyncio.Event()
        self._reaping: set[asyncio.Task[int]] = set()
        self._faults = Faults(layout, self._parts, self._start_parts, self._stop_part)
        self._commands: dict[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]] = {
            "start": self._start,
            "restart": self._restart,
            "status": self._status,
            "publish": self._publish,
            "release": self._release,
            "break": self._break,
            "links": self._links,
            "mend": self._mend,
        }

    async def run(self) -> None:
        """Serve until released (parts go on) or told to end by a signal (likewise)."""
        self._layout.supervisor_socket.unlink(missing_ok=True)
        self._adopt()
        await self._faults.recover()
        with socket_address(self._layout.supervisor_socket) as address:
            server = await asyncio.start_unix_server(self._serve, address, limit=_LINE_LIMIT_BYTES)
        self._layout.supervisor_socket.chmod(0o600)
        write_private(self._layout.supervisor_pid, json.dumps(asdict(ProcessIdentity.own())))
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._ended.set)
        rotation = asyncio.create_task(self._rotate_for_ever())
        await self._ended.wait()
        server.close()
        rotation.cancel()
        for part in self._parts.values():
            if part.keeper:
                part.keeper.cancel()
        self._layout.supervisor_socket.unlink(missing_ok=True)
        self._layout.supervisor_pid.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = json.loads(await reader.readline())
            answer = await self._commands[request["do"]](request)
        except EmbeddedError as error:
            answer = {"error": str(error)}
        except (ValueError, KeyError, TypeError, OSError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        try:
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()
        if answer.get("released"):
            self._ended.set()

    # -- commands ------------------------------------------------------------------------------------

    async def _start(self, request: dict[str, Any]) -> dict[str, Any]:
        """Start parts; one that runs with an equal spec is left alone, one with another is replaced."""
        await self._start_parts([PartSpec.from_json(value) for value in request["parts"]])
        return {}

    async def _start_parts(self, specs: Sequence[PartSpec]) -> None:
        for spec in specs:
            part = self._parts.get(spec.name)
            if part and part.spec.fingerprint() == spec.fingerprint() and part.keeper:
                continue
            if part:
                await self._end(part)
            self._parts[spec.name] = part = _Supervised(spec)
            await self._spawn(part)
            part.keeper = asyncio.create_task(self._keep(part))

    async def _stop_part(self, name: str) -> None:
        """End a part for good, if there is one of this name."""
        part = self._parts.pop(name, None)
        if part is not None:
            await self._end(part)
            self._record()

    async def _restart(self, request: dict[str, Any]) -> dict[str, Any]:
        """Start a part anew: beside the old process where it can take over from it, else after its end."""
        part = self._parts.get(request["part"])
        if part is None or part.keeper is None:
            return {"error": f"no part {request['part']!r} runs; see `meridian status`"}
        old = part.process
        if old is None or not old.is_alive() or not part.spec.successor_argv:
            await self._end(part)
            await self._spawn(part)
            part.keeper = asyncio.create_task(self._keep(part))
            return {"took_over": False}
        part.keeper.cancel()  # the old one may end before we have noted the new one
        try:
            await self._succeed(part, old)
        except EmbeddedError as error:
            return {"error": str(error)}
        finally:
            part.keeper = asyncio.create_task(self._keep(part))
        return {"took_over": True}

    async def _succeed(self, part: _Supervised, old: ProcessIdentity) -> None:
        spec = replace(part.spec, argv=(*part.spec.argv, *part.spec.successor_argv))

        def spawn(added: dict[str, str], kept_open: tuple[int, ...]) -> subprocess.Popen[bytes]:
            environment = part_environment({**spec.env, **added}, self._instance)
            log = os.open(self._layout.log(spec.name), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                return _spawn_process(spec, environment, log, kept_open)
            finally:
                os.close(log)

        child = await start_successor(spec.name, spawn)
        process = ProcessIdentity.of(child.pid)
        if process is None:
            raise EmbeddedError(f"the new {spec.name} ended at once: see its log")
        _log.info("%s: pid %d took over from pid %d", spec.name, process.pid, old.pid)
        leaving, part.child, part.process = part.child, child, process
        part.started_at, part.last_exit = time.time(), ""
        self._record()
        if leaving is not None:
            reaping = asyncio.create_task(asyncio.to_thread(leaving.wait))  # or it stays a zombie
            self._reaping.add(reaping)
            reaping.add_done_callback(self._reaping.discard)

    async def _status(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"pid": os.getpid(), "parts": [part.to_json() for part in self._parts.values()]}

    async def _publish(self, request: dict[str, Any]) -> dict[str, Any]:
        """Write ``endpoints.json``: from now on its ``pids`` follow every restart."""
        write_private(self._layout.endpoints, json.dumps(request["endpoints"], indent=2) + "\n")
        self._record()
        return {}

    async def _release(self, _: dict[str, Any]) -> dict[str, Any]:
        """End, and leave the parts to the caller, none of them stopped."""
        await self._faults.end()
        return {"released": True}

    async def _break(self, request: dict[str, Any]) -> dict[str, Any]:
        """Break something on purpose, for a while (``faults``)."""
        await self._faults.begin(request["kind"], request["clusters"], float(request["for_s"]))
        return {}

    async def _links(self, request: dict[str, Any]) -> dict[str, Any]:
        """Make calls between regions late, or cut them."""
        self._faults.set_links(request["kind"], request["clusters"], float(request["delay_s"]))
        return {}

    async def _mend(self, _: dict[str, Any]) -> dict[str, Any]:
        """Put it back before its time is over."""
        return {"mended": await self._faults.end()}

    # -- keeping parts alive ---------------------------------------------------------------------------

    def _adopt(self) -> None:
        for name, found in record.alive(self._layout).items():
            part = _Supervised(
                found.spec,
                process=found.process,
                state="running",
                restarts=found.restarts,
                started_at=found.started_at,
            )
            part.keeper = asyncio.create_task(self._keep(part))
            self._parts[name] = part
        self._record()

    async def _keep(self, part: _Supervised) -> None:
        """Wait for the end of the part's process, pause, start it again; for ever."""
        while True:
            process = part.process
            if process and process.is_alive():
                await asyncio.sleep(_LOOK_EVERY_S)
                continue
            if process:
                await self._note_end(part, process)
            part.state, part.process = "backing_off", None
            self._record()
            await asyncio.sleep(pause_s(part.failures_in_a_row))
            await part.may_start.wait()
            part.failures_in_a_row += 1
            part.restarts += 1
            await self._spawn(part)

    async def _note_end(self, part: _Supervised, process: ProcessIdentity) -> None:
        if time.time() - part.started_at > _STEADY_AFTER_S:
            part.failures_in_a_row = 0
        part.last_exit = await asyncio.to_thread(_exit_text, part.child)
        _log.info("%s (pid %d) ended: %s", part.spec.name, process.pid, part.last_exit)
        for left in await asyncio.to_thread(group_of, process.pid, self._instance):
            left.send(signal.SIGKILL)

    async def _spawn(self, part: _Supervised) -> None:
        spec = part.spec
        environment = part_environment(spec.env, self._instance)
        log = os.open(self._layout.log(spec.name), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            part.child = _spawn_process(spec, environment, log)
        except (OSError, KeyError) as error:
            os.write(log, f"meridian: could not start {spec.argv[0]}: {error}\n".encode())
            part.last_exit, part.process = str(error), None
            return
        finally:
            os.close(log)
        part.process = ProcessIdentity.of(part.child.pid)
        if part.process is None:
            part.last_exit = await asyncio.to_thread(_exit_text, part.child)
        part.state = "running"
        part.started_at = time.time()
        self._record()

    async def _end(self, part: _Supervised) -> None:
        if part.keeper:
            part.keeper.cancel()
            part.keeper = None
        if part.process:
            await asyncio.to_thread(
                stop,
                part.process,
                self._instance,
                signal_number=part.spec.stop_signal,
                grace_s=part.spec.stop_grace_s,
            )
            await asyncio.to_thread(_exit_text, part.child)
        part.process, part.child = None, None

    def _record(self) -> None:
        """Write down who runs, for the next supervisor, for ``down`` and for scripts."""
        record.write(
            self._layout,
            {
                name: record.RecordedPart(part.spec, part.process, part.restarts, part.started_at)
                for name, part in self._parts.items()
                if part.process
            },
        )
        endpoints = read_json(self._layout.endpoints)
        pids = {name: part.process.pid for name, part in self._parts.items() if part.process}
        if endpoints and endpoints.get("pids") != pids:
            write_private(self._layout.endpoints, json.dumps({**endpoints, "pids": pids}, indent=2) + "\n")

    async def _rotate_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_ROTATE_EVERY_S)
            for log in self._layout.logs.glob("*.log"):
                rotate(log, _LOG_LIMIT_BYTES)


def part_environment(added: dict[str, str], instance: str) -> dict[str, str]:
    """What a part gets to see: our own environment, what its spec adds, and the mark.

    Parts may always cache their compiled code: without it every start takes seconds longer.
    """
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, **added, INSTANCE_VARIABLE: instance}


def rotate(log: Path, limit_bytes: int) -> None:
    """Move a log's content to ``.1`` (and ``.1`` to ``.2`` ...) once it is larger than the limit."""
    if log.stat().st_size <= limit_bytes:
        return
    for number in range(_LOGS_KEPT - 1, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        if older.exists():
            older.replace(log.with_name(f"{log.name}.{number + 1}"))
    shutil.copy2(log, log.with_name(f"{log.name}.1"))
    os.truncate(log, 0)


def _spawn_process(
    spec: PartSpec, environment: dict[str, str], log: int, kept_open: tuple[int, ...] = ()
) -> subprocess.Popen[bytes]:
    """Start a part in a session of its own, so that no signal to our terminal or group reaches it."""
    return subprocess.Popen(
        spec.argv,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        cwd=spec.cwd,
        env=environment,
        start_new_session=True,
        pass_fds=kept_open,
        user=spec.run_as or None,
        group=pwd.getpwnam(spec.run_as).pw_gid if spec.run_as else None,
        extra_groups=[] if spec.run_as else None,
    )


def _exit_text(child: subprocess.Popen[bytes] | None) -> str:
    """How a child ended. Its main thread may be gone a moment before the kernel gives the whole process up."""
    if child is None:
        return "gone"
    try:
        code = child.wait(_EXIT_WITHIN_S)
    except subprocess.TimeoutExpired:
        return "gone"
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"


def main() -> None:
    """Run a supervisor over the state folder that the command line names."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    asyncio.run(Supervisor(Layout(state=Path(sys.argv[1]))).run())


if __name__ == "__main__":
    main()
