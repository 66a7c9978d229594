"""The networks between regions, for as long as a drill makes them slow or cuts them.

    python -m infra.embedded.links FAULT_FILE --way CLUSTER=PORT:GATEWAY_PORT [--way ...]

In front of each gateway stands a port that the other gateways are told to call instead of it. FAULT_FILE says what is
wrong, ``{"kind": ..., "clusters": [...], "delay_s": ..., "until": seconds since 1970}``; without it bytes pass.

``latency``            what goes to or comes from these clusters is late, each way
``partition-one-way``  calls to these clusters get silence; calls that they make go on
``partition-two-way``  calls that they make get silence too

A way that is cut is silent, as where packets are dropped: connections stay open, and what waited arrives when it is
whole again. Who calls whom is in each gateway's signed statement, which is read here and not checked; what is called
without one comes from nobody.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import re
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.embedded.layout import read_json
from infra.embedded.ports import HOST

KINDS = ("latency", "partition-one-way", "partition-two-way")
_LOOK_EVERY_S = 0.05
_READ_BYTES = 65536
_STATEMENT = re.compile(rb"\r\nx-meridian-peer: v1\.([A-Za-z0-9_-]+)\.", re.IGNORECASE)


@dataclass(frozen=True)
class LinkFault:
    """What is wrong between regions now; empty ``clusters``: nothing."""

    kind: str = ""
    clusters: frozenset[str] = frozenset()
    delay_s: float = 0.0

    def cuts(self, caller: str, callee: str) -> bool:
        """Whether a call gets silence."""
        if self.kind == "partition-one-way":
            return callee in self.clusters
        return self.kind == "partition-two-way" and bool({caller, callee} & self.clusters)

    def delays_s(self, caller: str, callee: str) -> float:
        """By how much bytes of a call are late, each way."""
        return self.delay_s if self.kind == "latency" and {caller, callee} & self.clusters else 0.0


def fault_read(document: Mapping[str, Any], now: float) -> LinkFault:
    """What a fault file says, unless its time is over."""
    if not document or document["until"] <= now:
        return LinkFault()
    return LinkFault(document["kind"], frozenset(document["clusters"]), document["delay_s"])


@dataclass
class _Call:
    """One connection. ``sender_id``: empty until it has said whose it is."""

    callee: str
    sender_id: str = ""


class Links:
    """All ways, under one fault."""

    def __init__(self, fault_file: Path) -> None:
        self._fault_file = fault_file
        self._name_by_id: dict[str, str] = {}
        self.fault = LinkFault()
        self._changed = asyncio.Event()
        self._carrying: set[asyncio.Task[None]] = set()

    async def listen(self, callee: str, port: int, target: int) -> asyncio.Server:
        """Carry what comes to ``port`` to ``target``."""

        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101
            self._carrying.add(task)
            try:
                await self._carry(callee, target, reader, writer)
            except (OSError, asyncio.CancelledError):
                writer.transport.abort()
            finally:
                self._carrying.discard(task)

        return await asyncio.start_server(carry, HOST, port)

    async def end(self) -> None:
        """Break what is still carried."""
        for task in self._carrying:
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    def set(self, fault: LinkFault) -> None:
        """From now on this is wrong; who waited for the end of what was looks again."""
        if fault != self.fault:
            self.fault = fault
            self._changed.set()
            self._changed = asyncio.Event()

    async def look_for_ever(self) -> None:
        """Read the file again and again."""
        while True:
            self.set(fault_read(read_json(self._fault_file), time.time()))
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _carry(
        self, callee: str, target: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Raises OSError where nobody takes it."""
        far_reader, far_writer = await asyncio.open_connection(HOST, target)
        call = _Call(callee)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(call, reader, far_writer, calls=True))
                group.create_task(self._pump(call, far_reader, writer, calls=False))
        except* OSError:
            far_writer.transport.abort()
            writer.transport.abort()
        finally:
            for each in (far_writer, writer):
                each.close()

    async def _pump(
        self, call: _Call, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, calls: bool
    ) -> None:
        """In order, late by the delay that was in force when they came, and not while the way is cut."""
        late: asyncio.Queue[tuple[float, bytes | None]] = asyncio.Queue(maxsize=256)

        async def read() -> None:
            data: bytes | None = b"-"
            while data:
                try:
                    data = await reader.read(_READ_BYTES)
                except OSError:
                    data = None
                if calls and data and not call.sender_id:
                    self._learn(call, data)
                delay_s = self.fault.delays_s(self._caller(call), call.callee)
                await late.put((time.monotonic() + delay_s, data))

        reading = asyncio.create_task(read())
        try:
            while True:
                due_s, data = await late.get()
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                while self.fault.cuts(self._caller(call), call.callee):
                    await self._changed.wait()
                if data is None:
                    raise ConnectionResetError
                if not data:
                    writer.write_eof()
                    return
                writer.write(data)
                await writer.drain()
        finally:
            reading.cancel()

    def _learn(self, call: _Call, data: bytes) -> None:
        """Whose call it is; and whom it is for, by which the ids of all clusters become known."""
        found = _STATEMENT.search(data)
        with contextlib.suppress(ValueError, KeyError, TypeError):
            if found is not None:
                text = found[1]
                told = json.loads(base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4)))
                call.sender_id = told["sender"]
                self._name_by_id[told["audience"]] = call.callee

    def _caller(self, call: _Call) -> str:
        return self._name_by_id.get(call.sender_id, "")


async def _run(options: argparse.Namespace) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    links = Links(options.fault_file)
    looking = asyncio.create_task(links.look_for_ever())
    servers = [await links.listen(*way) for way in options.way]
    await ended.wait()
    looking.cancel()
    for server in servers:
        server.close()
    await links.end()


def _way(text: str) -> tuple[str, int, int]:
    cluster, _, ports = text.partition("=")
    listen, _, target = ports.partition(":")
    if not (cluster and listen.isdigit() and target.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no way: write CLUSTER=PORT:GATEWAY_PORT")
    return cluster, int(listen), int(target)


def main() -> None:
    """Carry from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.embedded.links", description="networks between regions"
    )
    parser.add_argument("fault_file", type=Path)
    parser.add_argument(
        "--way", type=_way, required=True, action="append", metavar="CLUSTER=PORT:GATEWAY_PORT"
    )
    asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
