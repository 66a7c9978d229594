"""The agent's end of the socket, against gateways by hand."""

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import uvloop

from tests.support.fake_gateway import FakeGateway
from tests.support.tables import Signer, endpoint, header
from tests.support.waiting import eventually_async
from workloadplane.agent.gateways import GatewayHub, RevisionLoad
from workloadplane.protocol.local import DeploymentLoad, EndpointSet, Hello, TablePush
from workloadplane.protocol.observed import PeerStanding
from workloadplane.protocol.usage import LATENCY_BUCKETS_S


@dataclass
class Heard:
    """What the hub told its owner."""

    loads: int = 0
    peers: int = 0
    behind: list[int] = field(default_factory=list)

    def load(self) -> None:
        self.loads += 1

    def peer(self) -> None:
        self.peers += 1


def with_hub(scenario: Callable[[GatewayHub, Heard, Path], Awaitable[None]], state_dir: Path) -> None:
    """Run a scenario against an open hub."""

    async def run() -> None:
        heard = Heard()
        hub = GatewayHub(
            on_news=lambda: None, on_load=heard.load, on_behind=heard.behind.append, on_peers=heard.peer
        )
        await hub.open(state_dir / "agent.sock")
        try:
            async with asyncio.timeout(20):
                await scenario(hub, heard, state_dir)
        finally:
            await hub.close()

    uvloop.run(run())


def endpoints(generation: int, *states: str) -> EndpointSet:
    found = tuple(endpoint(1, replica_id=f"replica-{n}", state=state) for n, state in enumerate(states))
    return EndpointSet(endpoint_generation=generation, endpoints=found)


async def connected(state_dir: Path, name: str, *, acknowledges: bool = True) -> FakeGateway:
    return await asyncio.to_thread(FakeGateway, state_dir, name, acknowledges=acknowledges)


def test_only_its_owner_may_connect(tmp_path: Path) -> None:
    """The socket is 0600, also when a stale one lay there."""
    (tmp_path / "agent.sock").touch(mode=0o666)

    async def scenario(hub: GatewayHub, heard: Heard, state_dir: Path) -> None:
        assert (await asyncio.to_thread(os.stat, state_dir / "agent.sock")).st_mode & 0o777 == 0o600

    with_hub(scenario, tmp_path)


def test_a_replica_is_clear_only_when_every_gateway_has_let_go(tmp_path: Path) -> None:
    """One gateway that has not acknowledged, or that has a request there, is enough to wait."""

    async def scenario(hub: GatewayHub, heard: Heard, state_dir: Path) -> None:
        prompt, slow = await connected(state_dir, "a"), await connected(state_dir, "b", acknowledges=False)
        await eventually_async(lambda: hub.connected == 2)
        hub.publish(endpoints(5, "draining"))
        await eventually_async(lambda: slow.endpoints is not None and prompt.endpoints is not None)
        prompt.report()
        await eventually_async(lambda: heard.loads == 1)
        assert not hub.is_clear("replica-0", since_generation=5)

        slow.report(in_flight_by_replica={"replica-0": 1})
        slow.acknowledge()
        slow.report(in_flight_by_replica={"replica-0": 1})
        await eventually_async(lambda: heard.loads == 3)
        assert not hub.is_clear("replica-0", since_generation=5)
        assert hub.in_flight("replica-0") == 1

        slow.report()
        await eventually_async(lambda: hub.is_clear("replica-0", since_generation=5))
        assert not hub.is_clear("replica-0", since_generation=6)

    with_hub(scenario, tmp_path)


def test_a_lost_gateway_has_time_to_come_back(tmp_path: Path) -> None:
    """Its connection broke, its streams may run on: nothing is clear until it is back or gone for good."""

    async def scenario(hub: GatewayHub, heard: Heard, state_dir: Path) -> None:
        assert not hub.is_clear("replica-0", since_generation=0), "a running gateway may not be back yet"
        hub.publish(endpoints(1, "draining"))
        gateway = await connected(state_dir, "a")
        await eventually_async(lambda: hub.is_clear("replica-0", since_generation=1))
        gateway.close()
        await eventually_async(lambda: hub.connected == 0)
        assert not hub.is_clear("replica-0", since_generation=1)

        await connected(state_dir, "a")
        await eventually_async(lambda: hub.is_clear("replica-0", since_generation=1))

    with_hub(scenario, tmp_path)


def test_a_table_is_in_force_when_no_gateway_can_serve_by_an_older_one(tmp_path: Path) -> None:
    """A gateway that is silent, or gone for less than the lease, may; an agent that has just started can't know."""
    signer = Signer()
    lease_s = 0.5
    short = msgspec.structs.replace(header("c-eu"), hard_ttl_s=lease_s)

    def routing(generation: int) -> TablePush:
        table = signer.routing(short, [], audience="c-eu", generation=generation)
        return TablePush(kind="routing", table=table)

    async def scenario(hub: GatewayHub, heard: Heard, state_dir: Path) -> None:
        hub.publish(routing(3))
        assert hub.routing_in_force() == 0, "gateways of its former life may hold an older one"
        await eventually_async(lambda: hub.routing_in_force() == 3)
        prompt, slow = await connected(state_dir, "a"), await connected(state_dir, "b")
        await eventually_async(lambda: hub.connected == 2)
        assert hub.routing_in_force() == 0
        prompt.acknowledge_routing(3)
        slow.acknowledge_routing(3)
        await eventually_async(lambda: hub.routing_in_force() == 3)
        hub.publish(routing(4))
        prompt.acknowledge_routing(4)
        slow.close()
        await eventually_async(lambda: hub.connected == 1)
        parted_at = time.monotonic()
        assert hub.routing_in_force() == 3
        await eventually_async(lambda: hub.routing_in_force() == 4)
        assert time.monotonic() - parted_at >= lease_s * 0.8

    with_hub(scenario, tmp_path)


def test_load_is_summed_over_gateways_and_unknown_without_any(tmp_path: Path) -> None:
    """No gateway is not the same as no load."""

    async def scenario(hub: GatewayHub, heard: Heard, state_dir: Path) -> None:
        assert hub.loads() is None
        for name in ("a", "b"):
            gateway = await connected(state_dir, name)
            gateway.report(("chat", "chat-1", 2, 1), in_flight_by_replica={"replica-0": 2})
        await eventually_async(lambda: heard.loads == 2)
        assert hub.loads() == {("chat", "chat-1"): RevisionLoad(in_flight=4, waiting=2)}
        assert hub.in_flight("replica-0") == 4
        await connected(state_dir, "has not told yet")
        await eventually_async(lambda: hub.connected == 3)
        assert hub.loads() is None

    with_hub(scenario, tmp_path)


def test_what_has_finished_is_added_up_over_gateways_and_their_restarts(tmp_path: Path) -> None:
    """From each gateway's first word on; one that began anew takes nothing away, nor does one that tells less."""

    def told(requests: int, tokens: int, firsts: int) -> DeploymentLoad:
        counts = tuple(firsts if number == 3 else 0 for number in range(len(LATENCY_BUCKETS_S) + 1))
        return DeploymentLoad(
            deployment_id="chat",
            revision_id="chat-1",
            in_flight=0,
            waiting=0,
            requests_total=requests,
            output_tokens_total=tokens,
            ttft_counts=counts,
        )

    async def scenario(hub: GatewayHub, heard: Heard, state_dir: Path) -> None:
        for name in ("a", "b"):
            gateway = await connected(state_dir, name)
            for requests in (10, 13, 2, 4):
                gateway.report_finished(told(requests, 100 * requests, requests))
            gateway.report(("chat", "chat-1", 0, 0))
        await eventually_async(lambda: heard.loads == 10)
        finished = hub.finished["chat", "chat-1"]
        assert (finished.requests, finished.output_tokens) == (10, 1000)
        assert (finished.ttft_counts[3], sum(finished.ttft_counts)) == (10, 10)
        hub.forget_finished(set())
        assert hub.finished == {}

    with_hub(scenario, tmp_path)


def test_a_gateway_that_holds_more_than_was_sent_is_noticed(tmp_path: Path) -> None:
    """The agent lost its memory: it must go on above what the gateway holds."""

    async def scenario(hub: GatewayHub, heard: Heard, state_dir: Path) -> None:
        hub.publish(endpoints(1))
        gateway = await connected(state_dir, "a", acknowledges=False)
        await eventually_async(lambda: gateway.endpoints)
        gateway.endpoints = endpoints(41)
        gateway.acknowledge()
        await eventually_async(lambda: heard.behind == [41])

    with_hub(scenario, tmp_path)


def test_strangers_and_slow_readers_disturb_nobody(tmp_path: Path) -> None:
    """Garbage ends its own connection; who does not read gets the newest later, and nothing piles up."""

    async def scenario(hub: GatewayHub, heard: Heard, state_dir: Path) -> None:
        gateway = await connected(state_dir, "good")
        reader, writer = await asyncio.open_unix_connection(state_dir / "agent.sock")
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await reader.read() == b""

        reader, writer = await asyncio.open_unix_connection(state_dir / "agent.sock", limit=1024)
        writer.write(msgspec.json.encode(Hello(gateway_instance="slow", pid=1)) + b"\n")
        await eventually_async(lambda: hub.connected == 2)
        many = ["ready"] * 2000
        for generation in range(1, 101):
            hub.publish(endpoints(generation, *many))
            await asyncio.sleep(0)
        await eventually_async(lambda: gateway.endpoints and gateway.endpoints.endpoint_generation == 100)
        received = bytearray()
        while b'"endpoint_generation":100,' not in received:
            received += await reader.read(1 << 20)
        assert len(received) < 20 * len(msgspec.json.encode(endpoints(100, *many)))
        with contextlib.suppress(ConnectionError):
            writer.close()

    with_hub(scenario, tmp_path)


def test_of_several_gateways_the_one_that_sees_a_peer_best_counts(tmp_path: Path) -> None:
    """A peer is lost from here when all of them have lost it; who is gone has no word any more."""

    def standing(state: str) -> PeerStanding:
        return PeerStanding(cluster_id="c-us", state=state, has_lost=state == "ejected")

    async def scenario(hub: GatewayHub, heard: Heard, state_dir: Path) -> None:
        one, other = await connected(state_dir, "a"), await connected(state_dir, "b")
        await eventually_async(lambda: hub.connected == 2)
        one.report(peers=(standing("healthy"),))
        other.report(peers=(standing("ejected"),))
        await eventually_async(lambda: heard.loads == 2)
        assert [peer.state for peer in hub.peers()] == ["healthy"]
        one.report(peers=(standing("ejected"),))
        await eventually_async(lambda: [peer.state for peer in hub.peers()] == ["ejected"])
        assert heard.peers >= 1, "told at once"
        (peer,) = hub.peers()
        assert peer.state_for_s is not None
        one.close()
        other.close()
        await eventually_async(lambda: hub.peers() == ())

    with_hub(scenario, tmp_path)
