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
from infra.embedded.proxy import Proxy, Rules, Way

KINDS = ("latency", "partition-one-way", "partition-two-way")
_LOOK_EVERY_S = 0.05
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


class _Between(Rules):
    """The ways to one gateway, under the fault that is in force. Who calls is known once it has said so."""

    def __init__(self, links: Links, callee: str) -> None:
        self._links, self._callee = links, callee

    def heard(self, way: Way, data: bytes) -> None:
        """Whose call it is; and whom it is for, by which the ids of all clusters become known."""
        found = _STATEMENT.search(data) if not way.caller else None
        if found is None:
            return
        with contextlib.suppress(ValueError, KeyError, TypeError):
            told = json.loads(base64.urlsafe_b64decode(found[1] + b"=" * (-len(found[1]) % 4)))
            way.caller = str(told["sender"])
            self._links.name_by_id[str(told["audience"])] = self._callee

    def cuts(self, way: Way) -> bool:
        return self._links.fault.cuts(self._links.name_by_id.get(way.caller, ""), self._callee)

    def delay_s(self, way: Way, *, calls: bool) -> float:
        return self._links.fault.delays_s(self._links.name_by_id.get(way.caller, ""), self._callee)


class Links:
    """All ways, under one fault. ``name_by_id``: clusters that have been called."""

    def __init__(self, fault_file: Path) -> None:
        self._fault_file = fault_file
        self._proxies: list[Proxy] = []
        self.name_by_id: dict[str, str] = {}
        self.fault = LinkFault()

    async def listen(self, callee: str, port: int, target: int) -> Proxy:
        """Carry what comes to ``port`` to ``target``. Raises OSError where that is taken."""
        proxy = Proxy((HOST, target), _Between(self, callee), port)
        await proxy.listen()
        self._proxies.append(proxy)
        return proxy

    def close(self) -> None:
        """Break what is still carried."""
        for proxy in self._proxies:
            proxy.close()

    def set(self, fault: LinkFault) -> None:
        """From now on this is wrong; who waited for the end of what was looks again."""
        if fault != self.fault:
            self.fault = fault
            for proxy in self._proxies:
                proxy.changed()

    async def look_for_ever(self) -> None:
        """Read the file again and again."""
        while True:
            self.set(fault_read(read_json(self._fault_file), time.time()))
            await asyncio.sleep(_LOOK_EVERY_S)


async def _run(options: argparse.Namespace) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    links = Links(options.fault_file)
    looking = asyncio.create_task(links.look_for_ever())
    for way in options.way:
        await links.listen(*way)
    await ended.wait()
    looking.cancel()
    links.close()


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
