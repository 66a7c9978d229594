"""Requests that find no replica wake the agent, wait within bounds and lose nothing."""

import asyncio
import json
import time
from pathlib import Path

import httpx

from tests.support.gateway import (
    AUTHORIZED,
    SSE_HEAD,
    Received,
    agent,
    agent_state,
    chunk,
    endpoints,
    gateway,
    json_answer,
    post,
    run,
    sends,
    upstream,
)
from tests.support.tables import api_key, endpoint
from tests.support.waiting import eventually_async
from workloadplane.gateway.learned import LearnedFile
from workloadplane.gateway.queueing import Learned
from workloadplane.protocol.local import Acknowledgement, EndpointSet, LoadReport, TablePush

CHAT = {"model": "chat", "messages": []}
URL = "/v1/chat/completions"
SPEECH = "/v1/audio/speech"


def test_held_requests_wake_the_agent_and_are_served_when_a_replica_is_ready(tmp_path: Path) -> None:
    """The agent hears of waiting requests at once; its next endpoint set releases all of them, in order."""

    async def scenario() -> None:
        state = agent_state(tmp_path / "agent")
        async with (
            upstream(sends(json_answer(b"{}"))) as engine,
            agent(state.directory) as plane,
            gateway(tmp_path / "gateway", state) as running,
            httpx.AsyncClient(base_url=running.url, headers=AUTHORIZED) as client,
        ):
            await plane.hears(lambda message: isinstance(message, LoadReport), "the gateway's first report")
            plane.heard.clear()
            asked = [asyncio.create_task(client.post(URL, json=CHAT)) for _ in range(5)]
            report = await plane.hears(
                lambda m: isinstance(m, LoadReport) and any(d.waiting == 5 for d in m.deployments),
                "five waiting requests",
            )
            assert report.deployments[0].deployment_id == "project-1-chat"
            assert report.deployments[0].revision_id == "chat-1"
            plane.push(endpoints(2, engine.port))
            responses = await asyncio.gather(*asked)
            assert [response.status_code for response in responses] == [200] * 5
            await plane.hears(
                lambda m: isinstance(m, LoadReport) and not m.deployments, "that nothing runs or waits"
            )
            records = await running.usage_of(5)
            assert all(record.queue_s > 0 for record in records)

    run(scenario())


def test_a_killed_replica_costs_its_requests_nothing_once_it_is_replaced(tmp_path: Path) -> None:
    """The only replica is gone, its endpoint still listed: requests wait for its successor, unseen by clients."""

    async def scenario() -> None:
        async with upstream(sends()) as gone:
            dead_port = gone.port
        state = agent_state(tmp_path / "agent", dead_port)
        async with (
            upstream(sends(json_answer(b"{}"))) as successor,
            agent(state.directory) as plane,
            gateway(tmp_path / "gateway", state) as running,
            httpx.AsyncClient(base_url=running.url, headers=AUTHORIZED) as client,
        ):
            asked = asyncio.create_task(client.post(URL, json=CHAT))
            await plane.hears(
                lambda m: isinstance(m, LoadReport) and any(d.waiting for d in m.deployments), "a waiter"
            )
            plane.push(endpoints(2, successor.port))
            assert (await asked).status_code == 200

    run(scenario())


def test_holding_is_bounded_by_time_count_and_bytes(tmp_path: Path) -> None:
    """Past the time: 503. Past the count or bytes: 429 at once. Both say when to come again."""

    async def scenario() -> None:
        state = agent_state(tmp_path / "agent")
        async with (
            gateway(
                tmp_path / "gateway", state, hold_timeout_s=0.6, hold_requests_max=2, hold_bytes_max=1000
            ) as running,
            httpx.AsyncClient(base_url=running.url, headers=AUTHORIZED) as client,
        ):
            too_large = await client.post(URL, json={**CHAT, "user": "x" * 1000})
            assert (too_large.status_code, too_large.json()["error"]["code"]) == (429, "queue_full")
            responses = await asyncio.gather(*(client.post(URL, json=CHAT) for _ in range(3)))
            assert sorted(response.status_code for response in responses) == [429, 503, 503]
            for response in responses:
                assert int(response.headers["retry-after"]) > 0
            codes = {response.json()["error"]["code"] for response in responses}
            assert codes == {"queue_full", "no_replica_ready"}
            records = await running.usage_of(4)
            assert {record.revision_id for record in records} == {"chat-1"}, "else nobody could book them"

    run(scenario())


def test_who_would_wait_in_vain_for_a_start_is_told_so_and_still_wakes_the_agent(tmp_path: Path) -> None:
    """The replica is started for whoever comes again when it was said to: else nobody would ever be served."""

    async def scenario() -> None:
        state, directory = agent_state(tmp_path / "agent"), tmp_path / "gateway"
        directory.mkdir()
        began = Learned(measured_at=time.time(), start_s=60.0)
        LearnedFile(directory, 0).write({"project-1-chat": began}, time.time())
        async with (
            agent(state.directory) as plane,
            gateway(directory, state) as running,
            httpx.AsyncClient(base_url=running.url, headers=AUTHORIZED) as client,
        ):
            await plane.hears(lambda message: isinstance(message, LoadReport), "the gateway's first report")
            plane.heard.clear()
            told = await client.post(URL, json=CHAT, headers={"x-meridian-deadline-ms": "5000"})
            assert (told.status_code, told.json()["error"]["code"]) == (429, "deadline")
            assert 40 <= int(told.headers["retry-after"]) <= 56
            await plane.hears(
                lambda m: isinstance(m, LoadReport) and any(d.waiting for d in m.deployments),
                "that somebody would have waited",
            )
            await plane.hears(lambda m: isinstance(m, LoadReport) and not m.deployments, "and waits no more")

    run(scenario())


def test_a_held_stream_is_kept_alive_with_comments(tmp_path: Path) -> None:
    """After a while a held stream gets its head and one-line comments, then the engine's events."""

    async def scenario() -> None:
        event = b'data: {"choices":[]}\n\ndata: [DONE]\n\n'
        state = agent_state(tmp_path / "agent")
        async with (
            upstream(sends(SSE_HEAD, chunk(event), chunk(b""))) as engine,
            agent(state.directory) as plane,
            gateway(tmp_path / "gateway", state, hold_comment_interval_s=0.1) as running,
            httpx.AsyncClient(base_url=running.url, headers=AUTHORIZED) as client,
            client.stream("POST", URL, json={**CHAT, "stream": True}) as response,
        ):
            assert response.status_code == 200
            assert response.headers["content-type"].startswith("text/event-stream")
            got = b""
            async for data in response.aiter_raw():
                got += data
                if got.count(b": k\n") == 2:
                    plane.push(endpoints(2, engine.port))
            comments, _, rest = got.partition(b"data:")
            assert comments.replace(b": k\n", b"") == b""
            assert b"data:" + rest == event

    run(scenario())


def test_a_held_request_that_is_no_stream_of_events_gets_no_early_answer(tmp_path: Path) -> None:
    """``stream`` where an engine takes no notice of it, or answers with sound, changes nothing while it waits."""

    async def scenario() -> None:
        state = agent_state(tmp_path / "agent")
        async with (
            upstream(sends(json_answer(b'{"data":[]}'))) as engine,
            agent(state.directory) as plane,
            gateway(tmp_path / "gateway", state, hold_comment_interval_s=0.01) as running,
            httpx.AsyncClient(base_url=running.url, headers=AUTHORIZED) as client,
        ):
            body = {"model": "chat", "input": "hello", "stream": True}
            asked = [asyncio.create_task(client.post(url, json=body)) for url in ("/v1/embeddings", SPEECH)]
            await eventually_async(lambda: len(running.process._context.room) == 2)
            running.process._sweep()
            plane.push(endpoints(2, engine.port))
            for answer in await asyncio.gather(*asked):
                assert answer.content == b'{"data":[]}'

    run(scenario())


def test_a_key_that_is_revoked_while_its_request_waits_gets_nothing(tmp_path: Path) -> None:
    """Neither an answer nor a replica's time, be the client told already that a stream begins or not."""

    async def scenario() -> None:
        state = agent_state(tmp_path / "agent")
        async with (
            upstream(sends(json_answer(b"{}"))) as engine,
            agent(state.directory) as plane,
            gateway(tmp_path / "gateway", state, hold_comment_interval_s=0.01) as running,
            httpx.AsyncClient(base_url=running.url, headers=AUTHORIZED) as client,
        ):
            asked = [asyncio.create_task(client.post(URL, json={**CHAT, "stream": s})) for s in (False, True)]
            await eventually_async(lambda: len(running.process._context.room) == 2)
            other = state.signer.keyset([api_key("another")], audience=state.cluster_id, generation=2)
            plane.push(TablePush(kind="keyset", table=other))
            await plane.hears(lambda m: isinstance(m, Acknowledgement) and m.generation == 2, "the key set")
            plane.push(endpoints(2, engine.port))
            plain, stream = await asyncio.gather(*asked)
            assert plain.status_code == 401
            assert plain.json()["error"]["code"] == "invalid_api_key"
            assert stream.status_code == 401 or b"invalid_api_key" in stream.content
            assert not engine.received

    run(scenario())


def test_an_engines_refusal_after_comments_is_an_error_event(tmp_path: Path) -> None:
    """When the head has gone out already, the engine's error reaches the client as the stream's last event."""

    async def scenario() -> None:
        refusal = b'{"error":\n{"message":"too long"}}'
        state = agent_state(tmp_path / "agent")
        async with (
            upstream(sends(json_answer(refusal, "400 Bad Request"))) as engine,
            agent(state.directory) as plane,
            gateway(tmp_path / "gateway", state, hold_comment_interval_s=0.1) as running,
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
            writer.write(post(json.dumps({**CHAT, "stream": True}).encode()))
            await reader.readuntil(b": k\n")
            plane.push(endpoints(2, engine.port))
            got = await reader.read()
            writer.close()
            assert b'event: error\ndata: {"error": {"message":"too long"}}\n\n' in got
            assert b"[DONE]" not in got
            assert got.endswith(b"0\r\n\r\n")

    run(scenario())


def test_a_held_client_that_leaves_leaves_the_queue(tmp_path: Path) -> None:
    """Nobody is served who has gone, and the agent hears that nobody waits."""

    async def scenario() -> None:
        state = agent_state(tmp_path / "agent")
        async with (
            upstream(sends(json_answer(b"{}"))) as engine,
            agent(state.directory) as plane,
            gateway(tmp_path / "gateway", state) as running,
        ):
            _, writer = await asyncio.open_connection("127.0.0.1", running.port)
            writer.write(post(json.dumps(CHAT).encode()))
            await plane.hears(
                lambda m: isinstance(m, LoadReport) and any(d.waiting for d in m.deployments), "a waiter"
            )
            plane.heard.clear()
            writer.close()
            await plane.hears(lambda m: isinstance(m, LoadReport) and not m.deployments, "nobody waits")
            plane.push(endpoints(2, engine.port))
            (record,) = await running.usage_of(1)
            assert record.outcome == "client_gone"
            assert engine.received == []

    run(scenario())


def test_draining_replicas_finish_and_take_nothing_new(tmp_path: Path) -> None:
    """After the acknowledged set without it, a replica gets no new request; its running one ends as it should."""

    async def scenario() -> None:
        async def script(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            await release.wait()
            writer.write(json_answer(b'"old"'))

        release = asyncio.Event()
        async with upstream(script) as old, upstream(sends(json_answer(b'"new"'))) as new:
            state = agent_state(tmp_path / "agent", old.port)
            async with (
                agent(state.directory) as plane,
                gateway(tmp_path / "gateway", state) as running,
                httpx.AsyncClient(base_url=running.url, headers=AUTHORIZED) as client,
            ):
                running_one = asyncio.create_task(client.post(URL, json=CHAT))
                await plane.hears(
                    lambda m: isinstance(m, LoadReport) and m.in_flight_by_replica == {"replica-1": 1},
                    "one in flight at the old replica",
                )
                replacement = endpoint(new.port, replica_id="replica-9")
                plane.push(EndpointSet(endpoint_generation=2, endpoints=(replacement,)))
                await plane.hears(
                    lambda m: getattr(m, "kind", "") == "endpoints" and m.generation == 2, "acknowledgement"
                )
                assert (await client.post(URL, json=CHAT)).content == b'"new"'
                release.set()
                assert (await running_one).content == b'"old"'
                await eventually_async(lambda: len(old.received) == 1)

    run(scenario())
