"""``python -m tests.faults.lost_region [RUNS]``: a region is frozen, returns, and is killed; what its clients notice.

Three regions as processes with simulated engines. Some clients ask the gateway of a region that has no replica of its
own, so that all they get comes from the two others; some ask through the edge, which is in front of these two, at a
steady rate and on a new connection each time. What fails there they ask for once more, as clients' libraries do.
"""

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any

import httpx

from infra.embedded.edge import Backend, Edge
from tests.support.gateway import AUTHORIZED, rewrite, run
from tests.support.gateway_program import Program, program
from tests.support.simulators import Simulator, simulator
from tests.support.waiting import eventually_async
from tests.workloadplane.gateway.test_peering import REGIONS, URL, World, only

HOME, NEAR, FAR = "c-eu", "c-us", "c-jp"
_NO_TLS = ssl.create_default_context()  # made once: it takes longer than a request
_EVERY_S = 0.05
#: After so long OpenAI's client library asks again what has failed.
_AGAIN_S = 0.5
_QUICK = ("--decode-step-s", "0.005", "--max-num-seqs", "64")
_BODY = {"model": "chat", "messages": [{"role": "user", "content": "tell me of the sea"}], "max_tokens": 8}


def _client() -> httpx.AsyncClient:
    return httpx.AsyncClient(headers=AUTHORIZED, timeout=8.0, verify=_NO_TLS)


@dataclass
class Asked:
    """A request as its client saw it."""

    began_s: float
    ended_s: float = 0.0
    failure: str = ""


@dataclass
class Load:
    """Clients that ask until they are told to stop. ``lag_s``: the most by which this process itself was late."""

    at_home: list[Asked] = field(default_factory=list)
    through_edge: list[Asked] = field(default_factory=list)
    again: list[Asked] = field(default_factory=list)
    lag_s: float = 0.0
    over: bool = False

    async def asks_at_home(self, url: str, *, streams: bool) -> None:
        """One after the other, on a connection that is kept."""
        async with _client() as client:
            while not self.over:
                await self._ask(client, url, self.at_home, streams=streams)
                await asyncio.sleep(0.05)

    async def asks_through_edge(self, url: str) -> None:
        """At a steady rate, whatever becomes of those before."""
        async with asyncio.TaskGroup() as group:
            for number in itertools.count():
                if self.over:
                    break
                group.create_task(self._asks_once(url, streams=number % 2 == 0))
                await asyncio.sleep(_EVERY_S)

    async def _asks_once(self, url: str, *, streams: bool) -> None:
        async with _client() as client:
            one = await self._ask(client, url, self.through_edge, streams=streams)
        if one.failure:
            await asyncio.sleep(_AGAIN_S)
            async with _client() as client:
                await self._ask(client, url, self.again, streams=streams)

    async def _ask(self, client: httpx.AsyncClient, url: str, asked: list[Asked], *, streams: bool) -> Asked:
        one = Asked(monotonic())
        asked.append(one)
        try:
            answer = await client.post(url + URL, json={**_BODY, "stream": streams})
            whole = answer.text.endswith("data: [DONE]\n\n") if streams else "choices" in answer.text
            if answer.status_code != 200 or not whole or "event: error" in answer.text:
                one.failure = f"{answer.status_code}: {answer.text[-300:]}"
        except httpx.HTTPError as error:
            one.failure = repr(error)
        one.ended_s = monotonic()
        return one

    async def watch_lag(self) -> None:
        while not self.over:
            before_s = monotonic()
            await asyncio.sleep(0.02)
            self.lag_s = max(self.lag_s, monotonic() - before_s - 0.02)

    def last_failed_s(self, lost_s: float, until_s: float = inf) -> float:
        """How long after the loss the last request through the edge began that failed."""
        failed = [one.began_s for one in self.through_edge if one.failure]
        after = [began_s - lost_s for began_s in failed if lost_s <= began_s < until_s]
        return max(after, default=0.0)


@dataclass
class Region:
    """A gateway and an engine, which live and die together."""

    gateway: Program
    engine: Simulator | None

    def signal(self, number: int) -> None:
        for process in (self.gateway.process, self.engine.process if self.engine else None):
            if process is not None:
                os.kill(process.pid, number)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as made:
        return int(made.getsockname()[1])


@contextlib.asynccontextmanager
async def _regions(directory: Path, stack: AsyncExitStack) -> AsyncIterator[dict[str, Region]]:
    world = World(directory, stack)
    ports = {name: _free_port() for name in REGIONS}
    engines = {n: stack.enter_context(simulator(*_QUICK, key="engine-secret")) for n in (NEAR, FAR)}
    made: dict[str, Region] = {}
    for name, (region, jurisdiction, _) in REGIONS.items():
        engine = engines.get(name)
        rewrite(
            world.states[name],
            *([engine.port] if engine else []),
            region=region,
            jurisdiction=jurisdiction,
            routes=only(NEAR, FAR),
            peers=tuple(world.peer(other, ports[other]) for other in REGIONS if other != name),
        )
        options = ("--port", str(ports[name]), "--ramp-rung-s", "0.3")
        state, spool = world.states[name].directory, directory / name / "gateway"
        running = await stack.enter_async_context(program(state, spool, *options, stdout=subprocess.DEVNULL))
        made[name] = Region(running, engine)
    yield made


async def _seen(region: Region, of: str) -> dict[str, Any]:
    """One region in the eyes of another."""
    async with httpx.AsyncClient(timeout=5.0, verify=_NO_TLS) as client:
        page = json.loads((await client.get(region.gateway.url + "/debug/regions")).text)
    return next(each for each in page["regions"] if each["cluster_id"] == of)


async def _metrics(region: Region) -> str:
    async with httpx.AsyncClient(timeout=5.0, verify=_NO_TLS) as client:
        return (await client.get(region.gateway.url + "/metrics")).text


@dataclass
class Figures:
    """What was measured; seconds.

    frozen_s, killed_s: from the loss to the beginning of the last request through the edge that failed
    ejected_s:          from the loss to the region's ejection at home, frozen and killed
    worst_s:            the longest request at home
    lag_s:              the most by which the measuring process itself was late
    requests, failed:   in all; at home, through the edge in spite of a second try, and through the edge while the
                        region returned; failures: what these were told
    """

    frozen_s: float = 0.0
    killed_s: float = 0.0
    ejected_s: tuple[float, float] = (0.0, 0.0)
    worst_s: float = 0.0
    lag_s: float = 0.0
    requests: int = 0
    failed: tuple[int, int, int] = (0, 0, 0)
    rungs: tuple[int, ...] = ()
    evidence: str = ""
    metrics: str = field(default="", repr=False)
    failures: tuple[str, ...] = ()


async def lose(directory: Path) -> Figures:
    """Run it once."""
    load = Load()
    async with AsyncExitStack() as stack, _regions(directory, stack) as regions:
        backends = [Backend("127.0.0.1", regions[name].gateway.port) for name in (NEAR, FAR)]
        edge = Edge(backends)
        server = await edge.serve("127.0.0.1", 0)
        home, near = regions[HOME], regions[NEAR]

        async def is_state(state: str) -> bool:
            return bool((await _seen(home, NEAR))["state"] == state)

        async def more() -> None:
            count = len(load.through_edge)
            await eventually_async(lambda: len(load.through_edge) > count + 40, what="more requests")

        await eventually_async(lambda: is_state("healthy"), what="the near region is known")
        asking = _begin(load, home.gateway.url, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await more()
        near.signal(signal.SIGSTOP)
        frozen_s = monotonic()
        await eventually_async(lambda: is_state("ejected"), what="ejected")
        frozen_out_s = monotonic() - frozen_s
        seen, metrics = await _seen(home, NEAR), await _metrics(home)
        await eventually_async(lambda: monotonic() > frozen_s + 4.0)
        await more()
        near.signal(signal.SIGCONT)
        thawed_s = monotonic()
        await eventually_async(lambda: is_state("healthy"), what="back by the ramp")
        await eventually_async(lambda: backends[0].healthy, what="the edge takes it again")
        await more()
        near.signal(signal.SIGKILL)
        killed_s = monotonic()
        await eventually_async(lambda: is_state("ejected"), what="ejected")
        killed_out_s = monotonic() - killed_s
        await more()
        load.over = True
        await asyncio.gather(*asking)
        server.close()
        await edge.drain()
        changes = [line for line in home.gateway.told if line["event"] == "region changes"]
    returning = [one for one in load.through_edge if thawed_s <= one.began_s and one.ended_s < killed_s]
    return Figures(
        frozen_s=load.last_failed_s(frozen_s, thawed_s),
        killed_s=load.last_failed_s(killed_s),
        ejected_s=(frozen_out_s, killed_out_s),
        worst_s=max(one.ended_s - one.began_s for one in load.at_home),
        lag_s=load.lag_s,
        requests=len(load.at_home) + len(load.through_edge),
        failed=(_failed(load.at_home), _failed(load.again), _failed(returning)),
        rungs=tuple(c["rung"] for c in changes if c["now"] == "probation" and c["cluster_id"] == NEAR),
        evidence=seen["evidence"],
        metrics=metrics,
        failures=tuple(one.failure for one in (*load.at_home, *load.again, *returning) if one.failure),
    )


def _begin(load: Load, home_url: str, edge_url: str) -> list["asyncio.Task[None]"]:
    asking = [load.asks_at_home(home_url, streams=number % 2 == 0) for number in range(8)]
    return [
        asyncio.create_task(each) for each in (load.watch_lag(), load.asks_through_edge(edge_url), *asking)
    ]


def _failed(asked: list[Asked]) -> int:
    return sum(bool(one.failure) for one in asked)


def main(arguments: list[str]) -> int:
    """As often as is asked for; each run's figures, and the worst."""
    runs: list[Figures] = []

    async def one(directory: str) -> None:
        runs.append(await lose(Path(directory)))

    for _ in range(int(arguments[0]) if arguments else 1):
        with tempfile.TemporaryDirectory() as directory:
            run(one(directory), within_s=120)
        sys.stdout.write(f"{runs[-1]}\n")
    sys.stdout.write(
        f"last failed new request, worst of {len(runs)}: frozen {max(one.frozen_s for one in runs):.2f} s, "
        f"killed {max(one.killed_s for one in runs):.2f} s\n"
    )
    return 1 if any(any(one.failed) for one in runs) else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
