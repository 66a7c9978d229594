"""Gateways of several regions: one hop, proven, inside the residency, counted once."""

import json
import time
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import msgspec
import pytest

from tests.support.gateway import (
    AUTHORIZED,
    SECRET,
    SSE_HEAD,
    Running,
    agent_state,
    chunk,
    gateway,
    json_answer,
    rewrite,
    run,
    sends,
    upstream,
)
from tests.support.tables import AgentState, Signer, raw_public_key, revision, route
from workloadplane.gateway.peers import PeerStatement, sign
from workloadplane.protocol.routing import ApiKeyEntry, Peer, Route

CHAT = {"model": "chat", "messages": []}
URL = "/v1/chat/completions"
ANSWER = json.dumps({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}).encode()
REGIONS = {
    "c-eu": ("eu-west", "eu", 0.0),
    "c-us": ("us-east", "us", 80.0),
    "c-jp": ("ap-northeast", "jp", 200.0),
}


class World:
    """Gateways that know one another, each with the replicas it is given."""

    def __init__(self, directory: Path, stack: AsyncExitStack) -> None:
        self.directory = directory
        self.signer = Signer()
        self.states = {name: AgentState(directory / name / "agent", name, self.signer) for name in REGIONS}
        self.running: dict[str, Running] = {}
        self._stack = stack

    def peer(self, name: str, port: int) -> Peer:
        region, jurisdiction, rtt_ms = REGIONS[name]
        return Peer(
            cluster_id=name,
            cluster_name=name,
            region=region,
            jurisdiction=jurisdiction,
            url=f"http://127.0.0.1:{port}",
            public_key=raw_public_key(self.states[name].private_key),
            rtt_ms=rtt_ms,
        )

    async def start(
        self,
        name: str,
        *ports: int,
        routes: list[Route],
        keys: list[ApiKeyEntry] | None = None,
        peers: tuple[Peer, ...] = (),
        **limits: float,
    ) -> Running:
        region, jurisdiction, _ = REGIONS[name]
        state = self.states[name]
        known = (*peers, *(self.peer(other, up.port) for other, up in self.running.items()))
        rewrite(
            state, *ports, region=region, jurisdiction=jurisdiction, routes=routes, keys=keys, peers=known
        )
        up = await self._stack.enter_async_context(
            gateway(self.directory / name / "gateway", state, **limits)
        )
        self.running[name] = up
        return up

    def unstarted(self, name: str) -> Peer:
        """A peer that is known by its key but not reachable: it may still ask."""
        return self.peer(name, 1)


def everywhere(**changes: object) -> list[Route]:
    return [route(revisions=(revision(tuple(REGIONS)),), **changes)]  # type: ignore[arg-type]


def only(*clusters: str, **changes: object) -> list[Route]:
    return [route(revisions=(revision(clusters),), **changes)]  # type: ignore[arg-type]


def test_without_a_replica_here_another_region_serves(tmp_path: Path) -> None:
    """The nearest region answers; who served is told, the request is counted once, where the client was met."""

    async def scenario() -> None:
        async with upstream(sends(json_answer(ANSWER))) as engine, AsyncExitStack() as stack:
            world = World(tmp_path, stack)
            asking = (world.unstarted("c-eu"),)
            us = await world.start("c-us", engine.port, routes=everywhere(), peers=asking)
            jp = await world.start("c-jp", routes=everywhere(), peers=asking)
            eu = await world.start("c-eu", routes=everywhere())
            async with httpx.AsyncClient(headers=AUTHORIZED) as client:
                response = await client.post(eu.url + URL, json=CHAT)
                assert (response.status_code, response.content) == (200, ANSWER)
                assert response.headers["x-meridian-served-region"] == "us-east"
                assert response.headers["x-meridian-replica"] == "replica-1"
                told = {name for name in response.headers if name.startswith("x-meridian-")}
                assert told == {"x-meridian-served-region", "x-meridian-replica"}
                (record,) = await eu.usage_of(1)
                assert (record.served_cluster_id, record.origin) == ("c-us", "eu-west")
                assert (record.replica_id, record.revision_id, record.revision) == ("replica-1", "chat-1", 1)
                assert (record.pool_id, record.input_tokens, record.output_tokens) == ("pool-1", 3, 2)
                assert us.usage() == []
                assert jp.usage() == []
                assert engine.received[0].headers["authorization"] == "Bearer engine-secret"
                assert "x-meridian-peer" not in engine.received[0].headers
                assert engine.received[0].headers["x-request-id"] == record.request_id

    run(scenario())


def test_a_stream_through_two_gateways_is_byte_identical(tmp_path: Path) -> None:
    """Usage is asked for once, counted at the origin and taken out there; everything else passes."""

    async def scenario() -> None:
        token = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
        usage = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}\n\n'
        events = [token, b": k\n", usage, b"data: [DONE]\n\n"]
        async with (
            upstream(sends(SSE_HEAD, *(chunk(event) for event in events), chunk(b""))) as engine,
            AsyncExitStack() as stack,
        ):
            world = World(tmp_path, stack)
            await world.start("c-us", engine.port, routes=everywhere(), peers=(world.unstarted("c-eu"),))
            eu = await world.start("c-eu", routes=everywhere())
            async with httpx.AsyncClient(headers=AUTHORIZED) as client:
                response = await client.post(eu.url + URL, json={**CHAT, "stream": True})
                assert response.content == token + b": k\n" + b"data: [DONE]\n\n"
                (record,) = await eu.usage_of(1)
                assert (record.input_tokens, record.output_tokens) == (3, 1)

    run(scenario())


def test_regions_without_a_ready_replica_are_passed_over(tmp_path: Path) -> None:
    """The nearest region says at once that it has none, and the next one serves."""

    async def scenario() -> None:
        async with upstream(sends(json_answer(ANSWER))) as engine, AsyncExitStack() as stack:
            world = World(tmp_path, stack)
            asking = (world.unstarted("c-eu"),)
            await world.start("c-us", routes=everywhere(), peers=asking)
            await world.start("c-jp", engine.port, routes=everywhere(), peers=asking)
            eu = await world.start("c-eu", routes=everywhere())
            async with httpx.AsyncClient(headers=AUTHORIZED) as client:
                response = await client.post(eu.url + URL, json=CHAT)
                assert response.headers["x-meridian-served-region"] == "ap-northeast"

    run(scenario())


def test_a_dead_region_is_passed_over_and_avoided(tmp_path: Path) -> None:
    """A peer that refuses connections costs the client nothing."""

    async def scenario() -> None:
        async with upstream(sends(json_answer(ANSWER))) as engine, AsyncExitStack() as stack:
            world = World(tmp_path, stack)
            await world.start("c-jp", engine.port, routes=everywhere(), peers=(world.unstarted("c-eu"),))
            eu = await world.start("c-eu", routes=everywhere(), peers=(world.unstarted("c-us"),))
            async with httpx.AsyncClient(headers=AUTHORIZED) as client:
                for _ in range(3):
                    response = await client.post(eu.url + URL, json=CHAT)
                    assert response.headers["x-meridian-served-region"] == "ap-northeast"

    run(scenario())


def test_where_none_is_ready_anywhere_the_holder_waits(tmp_path: Path) -> None:
    """A region that holds no replica asks one that does to wait, and passes its answer on."""

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            world = World(tmp_path, stack)
            await world.start(
                "c-us", routes=only("c-us"), peers=(world.unstarted("c-eu"),), hold_timeout_s=0.6
            )
            eu = await world.start("c-eu", routes=only("c-us"))
            async with httpx.AsyncClient(headers=AUTHORIZED) as client:
                response = await client.post(eu.url + URL, json=CHAT)
                assert response.status_code == 503
                assert response.json()["error"]["code"] == "no_replica_ready"
                assert "0.6 s" in response.json()["error"]["message"], "it was held there"

    run(scenario())


@pytest.mark.parametrize("ingress", ["forward", "refuse"])
def test_residency_at_a_gateway_outside(tmp_path: Path, ingress: str) -> None:
    """A request for an EU deployment met in Japan is served in the EU or refused, never in Japan."""

    async def scenario() -> None:
        routes = everywhere(residency=("eu",), residency_ingress=ingress)
        async with (
            upstream(sends(json_answer(ANSWER))) as inside,
            upstream(sends(json_answer(ANSWER))) as outside,
            AsyncExitStack() as stack,
        ):
            world = World(tmp_path, stack)
            asking = (world.unstarted("c-jp"),)
            await world.start("c-eu", inside.port, routes=routes, peers=asking)
            await world.start("c-us", outside.port, routes=routes, peers=asking)
            jp = await world.start("c-jp", outside.port, routes=routes)
            async with httpx.AsyncClient(headers=AUTHORIZED) as client:
                response = await client.post(jp.url + URL, json=CHAT)
                models = (await client.get(jp.url + "/v1/models")).json()["data"]
                if ingress == "forward":
                    assert response.headers["x-meridian-served-region"] == "eu-west"
                    assert len(models) == 1
                else:
                    assert response.status_code == 451
                    assert response.json()["error"]["code"] == "residency_ingress"
                    assert models == []
                assert outside.received == []

    run(scenario())


def test_a_forwarded_request_is_judged_anew_and_never_goes_on(tmp_path: Path) -> None:
    """The receiver checks key, residency and statement itself; without a replica it refuses, it never forwards."""

    async def scenario() -> None:
        async with upstream(sends(json_answer(ANSWER))) as engine, AsyncExitStack() as stack:
            world = World(tmp_path, stack)
            us_routes = only("c-us", residency=("us",))
            await world.start("c-us", engine.port, routes=us_routes, peers=(world.unstarted("c-eu"),))
            eu = await world.start("c-eu", routes=us_routes, peers=(world.unstarted("c-jp"),))

            def statement(**changes: object) -> PeerStatement:
                values: dict[str, object] = {
                    "sender": "c-jp",
                    "audience": "c-eu",
                    "expires_at": 4e9,
                    "request_id": "req-1",
                    "api_key_id": "key-1",
                    "origin_region": "ap-northeast",
                    "residency": (),
                    "may_hold": True,
                    **changes,
                }
                return PeerStatement(**values)  # type: ignore[arg-type]

            async with httpx.AsyncClient(base_url=eu.url) as client:

                async def asked(made: PeerStatement, secret: str = SECRET) -> tuple[int, str]:
                    value = sign(made, world.states["c-jp"].private_key).decode()
                    headers = {"authorization": f"Bearer {secret}", "x-meridian-peer": value}
                    response = await client.post(URL, json=CHAT, headers=headers)
                    return response.status_code, response.json()["error"]["code"]

                soon = time.time() + 30
                assert await asked(statement()) == (403, "peer_statement"), "expires too late"
                assert await asked(statement(expires_at=soon, audience="c-us")) == (403, "peer_statement")
                assert await asked(statement(expires_at=soon, api_key_id="k")) == (403, "peer_statement")
                assert await asked(statement(expires_at=soon), "sk-no") == (401, "invalid_api_key")
                assert await asked(statement(expires_at=soon)) == (451, "residency")
                assert engine.received == []
                direct = await client.post(URL, json=CHAT, headers=AUTHORIZED)
                assert direct.status_code == 200, "a client of its own is passed on"

    run(scenario())


def test_the_region_document(tmp_path: Path) -> None:
    """Clients find all regions, their jurisdictions, addresses and distances."""

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            world = World(tmp_path, stack)
            peers = (world.unstarted("c-jp"), world.unstarted("c-us"))
            eu = await world.start("c-eu", routes=everywhere(), peers=peers)
            async with httpx.AsyncClient() as client:
                told = (await client.get(eu.url + "/.well-known/meridian/regions")).json()
                assert [region["region"] for region in told["regions"]] == [
                    "eu-west",
                    "us-east",
                    "ap-northeast",
                ]
                assert told["regions"][0]["url"] is None
                assert told["regions"][2] == {
                    "region": "ap-northeast",
                    "cluster": "c-jp",
                    "jurisdiction": "jp",
                    "url": "http://127.0.0.1:1",
                    "rtt_ms": 200.0,
                    "state": "suspect",
                }

    run(scenario())


def test_a_peer_alone_makes_a_gateway_ready(tmp_path: Path) -> None:
    """A gateway is ready with a peer alone, before any replica of its own."""

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            world = World(tmp_path, stack)
            eu = await world.start("c-eu", routes=everywhere(), peers=(world.unstarted("c-us"),))
            state = agent_state(tmp_path / "alone" / "agent")
            alone = await stack.enter_async_context(gateway(tmp_path / "alone" / "gateway", state))
            async with httpx.AsyncClient() as client:
                assert (await client.get(eu.url + "/readyz")).status_code == 200
                lonely = await client.get(alone.url + "/readyz")
                assert lonely.status_code == 503
                assert lonely.json()["missing"] == ["neither a ready replica nor a peer"]

    run(scenario())


def test_a_peer_whose_name_nobody_can_look_up_holds_no_request(tmp_path: Path) -> None:
    """The nearest peer's address cannot even be asked for: the request goes to the next one."""

    async def scenario() -> None:
        async with upstream(sends(json_answer(ANSWER))) as engine, AsyncExitStack() as stack:
            world = World(tmp_path, stack)
            await world.start("c-jp", engine.port, routes=everywhere(), peers=(world.unstarted("c-eu"),))
            nameless = msgspec.structs.replace(world.unstarted("c-us"), url=f"http://{'a' * 64}.example:80")
            eu = await world.start("c-eu", routes=everywhere(), peers=(nameless,))
            async with httpx.AsyncClient(headers=AUTHORIZED) as client:
                response = await client.post(eu.url + URL, json=CHAT)
                assert response.status_code == 200
                assert response.headers["x-meridian-served-region"] == "ap-northeast"

    run(scenario())
