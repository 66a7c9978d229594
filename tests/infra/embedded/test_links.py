"""The networks between regions: bytes pass, come late, or get silence, by who calls whom; and all arrive in the end."""

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from infra.embedded.errors import EmbeddedError
from infra.embedded.layout import Layout, read_json
from infra.embedded.links import LinkFault, Links, fault_read
from infra.embedded.ports import HOST
from infra.embedded.supervisor_client import SupervisorClient
from tests.infra.embedded.conftest import stand_in
from tests.support.waiting import eventually, eventually_async

IDS = {"eu-west": "id-eu", "us-east": "id-us", "ap-northeast": "id-jp"}


def call(sender: str, audience: str) -> bytes:
    """What a gateway says first."""
    told = {"sender": IDS[sender], "audience": IDS[audience], "request_id": "r"}
    statement = base64.urlsafe_b64encode(json.dumps(told).encode()).rstrip(b"=").decode()
    return f"GET / HTTP/1.1\r\nhost: x\r\nx-meridian-peer: v1.{statement}.sig\r\n\r\n".encode()


class World:
    """Three regions whose gateways echo, each behind its port."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "links.json"
        self.links = Links(self.file)
        self.ports: dict[str, int] = {}

    async def begin(self) -> None:
        for name in IDS:
            echo = await asyncio.start_server(self._echo, HOST, 0)
            target = echo.sockets[0].getsockname()[1]
            self.ports[name] = (await self.links.listen(name, 0, target)).port
        for name in IDS:  # who is who is learned from what they say
            await self.ask("eu-west" if name != "eu-west" else "us-east", name)

    @staticmethod
    async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def ask(self, caller: str, callee: str, more: bytes = b"") -> bytes:
        """The whole answer."""
        reader, writer = await asyncio.open_connection(HOST, self.ports[callee])
        writer.write(call(caller, callee) + more)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        return answer


def run(directory: Path, scenario: Callable[[World], Awaitable[None]]) -> None:
    async def within() -> None:
        world = World(directory)
        await world.begin()
        await scenario(world)
        world.links.close()

    async def bounded() -> None:
        async with asyncio.timeout(60):
            await within()

    asyncio.run(bounded())


@pytest.mark.parametrize(
    ("kind", "silent"),
    [
        ("partition-one-way", {("us-east", "eu-west")}),
        ("partition-two-way", {("us-east", "eu-west"), ("eu-west", "us-east")}),
    ],
)
def test_a_cut_is_silence_for_those_whom_it_concerns(
    tmp_path: Path, kind: str, silent: set[tuple[str, str]]
) -> None:
    """Other ways go on, and what waited arrives when the way is whole again."""

    async def scenario(world: World) -> None:
        world.links.fault = LinkFault(kind, frozenset({"eu-west"}))
        ways = [("us-east", "eu-west"), ("eu-west", "us-east"), ("us-east", "ap-northeast")]
        asking = {way: asyncio.create_task(world.ask(*way, b"hello")) for way in ways}
        open_ways = [asking[way] for way in ways if way not in silent]
        await eventually_async(lambda: all(task.done() for task in open_ways), what="the others are answered")
        assert {way for way, task in asking.items() if not task.done()} == silent
        world.links.set(LinkFault())
        for way, task in asking.items():
            assert await task == call(*way) + b"hello"

    run(tmp_path, scenario)


def test_bytes_are_late_in_their_order_and_none_is_lost(tmp_path: Path) -> None:
    """Each way; also of what came while it was late, when it is no longer."""

    async def scenario(world: World) -> None:
        world.links.fault = LinkFault("latency", frozenset({"eu-west"}), 0.2)
        began_s = time.monotonic()
        assert (await world.ask("us-east", "eu-west", b"x" * 300_000)).endswith(b"x" * 300_000)
        assert time.monotonic() - began_s >= 0.4
        reader, writer = await asyncio.open_connection(HOST, world.ports["eu-west"])
        writer.write(call("us-east", "eu-west") + b"first")
        await asyncio.sleep(0)
        world.links.set(LinkFault())
        writer.write(b"second")
        writer.write_eof()
        assert (await reader.read()).endswith(b"firstsecond")

    run(tmp_path, scenario)


def test_a_fault_ends_when_its_time_is_over() -> None:
    """Whoever set it may be dead by then."""
    document = {"kind": "latency", "clusters": ["eu-west"], "delay_s": 0.1, "until": 100.0}
    assert fault_read(document, 99.0) == LinkFault("latency", frozenset({"eu-west"}), 0.1)
    assert fault_read(document, 100.0) == LinkFault()
    assert fault_read({}, 0.0) == LinkFault()


def test_agents_tell_other_addresses_while_the_ways_are_held(
    layout: Layout, client: SupervisorClient
) -> None:
    """And their own again afterwards; what is wrong between regions can be set only meanwhile."""
    spec = stand_in(layout, "agent-eu-west")
    spec = replace(spec, argv=(*spec.argv, "--gateway-url", f"http://{HOST}:8881"))
    client.start([spec])

    def tells() -> str:
        recorded = read_json(layout.parts)["agent-eu-west"]["spec"]["argv"]
        return str(recorded[-1])

    with pytest.raises(EmbeddedError, match="begin with links"):
        client.break_links("latency", ["eu-west"], 0.1)
    client.break_on_purpose("links", [], 60)
    eventually(lambda: tells() != f"http://{HOST}:8881", what="it was started with another address")
    eventually(lambda: any(part.name == "links" and part.pid for part in client.status()), what="links runs")
    client.break_links("partition-one-way", ["eu-west"])
    assert read_json(layout.run / "links.json")["clusters"] == ["eu-west"]
    assert client.mend()
    assert tells() == f"http://{HOST}:8881"
    assert not (layout.run / "links.json").exists()
