"""Replicas that misbehave are avoided, left and trusted again; seen by clients, by the agent and by the engines."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.gateway import (
    AUTHORIZED,
    Agent,
    Received,
    Running,
    agent,
    agent_state,
    gateway,
    json_answer,
    run,
    sends,
    upstream,
)
from tests.support.simulators import Simulator, simulator
from tests.support.tables import endpoint
from tests.support.waiting import eventually_async
from workloadplane.protocol.local import EndpointSet, LoadReport

URL = "/v1/chat/completions"
CHAT = {"model": "chat", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
KEY = "engine-secret"
ANSWER = json_answer(b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}')


async def set_faults(engine: Simulator, **faults: Any) -> None:
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {KEY}"}) as client:
        answer = await client.put(engine.url + "/simulator/faults", json=faults)
        assert answer.status_code == 200, answer.text


async def ask(running: Running, **body: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=running.url, headers=AUTHORIZED, timeout=20) as client:
        return await client.post(URL, json={**CHAT, **body})


def ejected(plane: Agent) -> list[dict[str, str]]:
    return [report.ejected for report in plane.heard if isinstance(report, LoadReport) and report.ejected]


def test_a_replica_that_answers_with_errors_is_left_alone_and_comes_back(tmp_path: Path) -> None:
    """Its clients get answers from another; the agent hears of it; when it works again it serves again."""

    async def scenario(sick: Simulator, well: Simulator) -> None:
        state = agent_state(tmp_path / "agent", sick.port, well.port)
        async with (
            agent(state.directory) as plane,
            gateway(tmp_path / "gateway", state, ejection_s=0.3) as running,
        ):
            await set_faults(sick, unavailable_share=1.0)
            answers = [await ask(running) for _ in range(20)]
            assert {answer.status_code for answer in answers} == {200}
            assert {answer.headers["x-meridian-replica"] for answer in answers} == {"replica-2"}
            await plane.hears(lambda m: isinstance(m, LoadReport) and bool(m.ejected), "an ejection")
            assert ejected(plane)[0] == {"replica-1": "failed"}
            await set_faults(sick)

            async def serves_again() -> bool:
                return (await ask(running)).headers["x-meridian-replica"] == "replica-1"

            await eventually_async(serves_again)

    with simulator(key=KEY) as sick, simulator(key=KEY) as well:
        run(scenario(sick, well))


@pytest.mark.parametrize("stream", [True, False])
def test_a_replica_that_gives_nobody_anything_is_left(tmp_path: Path, stream: bool) -> None:
    """Requests that wait at a hung replica are answered by another one, and the agent hears why."""

    async def scenario(hung: Simulator, well: Simulator) -> None:
        state = agent_state(tmp_path / "agent", hung.port, well.port)
        async with (
            agent(state.directory) as plane,
            gateway(tmp_path / "gateway", state, stuck_first_token_s=0.2, stuck_stream_s=0.2) as running,
        ):
            await set_faults(hung, hang=True)
            answers = await asyncio.gather(*(ask(running, stream=stream) for _ in range(6)))
            assert {answer.status_code for answer in answers} == {200}
            assert {answer.headers["x-meridian-replica"] for answer in answers} == {"replica-2"}
            await plane.hears(lambda m: isinstance(m, LoadReport) and bool(m.ejected), "an ejection")
            assert ejected(plane)[0] == {"replica-1": "stuck"}

    with simulator(key=KEY) as hung, simulator(key=KEY) as well:
        run(scenario(hung, well))


def test_a_stream_that_is_stuck_goes_on_elsewhere(tmp_path: Path) -> None:
    """After a silence far above what is usual the rest comes from another replica: no error, no lost token."""

    async def scenario(stuck: Simulator, well: Simulator) -> None:
        state = agent_state(tmp_path / "agent", stuck.port, well.port)
        async with gateway(
            tmp_path / "gateway", state, stuck_first_token_s=0.2, stuck_stream_s=0.2
        ) as running:
            whole = (await ask(running, max_tokens=30, ignore_eos=True)).json()
            await set_faults(stuck, stuck_stream_after_tokens=5)
            asked = {"max_tokens": 30, "ignore_eos": True, "stream": True}
            answers = await asyncio.gather(*(ask(running, **asked) for _ in range(4)))
            for answer in answers:
                lines = [line for line in answer.text.split("\n") if line.startswith("data: {")]
                choices = [choice for line in lines for choice in json.loads(line[6:])["choices"]]
                text = "".join(choice["delta"].get("content", "") for choice in choices)
                assert text == whole["choices"][0]["message"]["content"]
            assert any(": resumed" in answer.text for answer in answers)

    with simulator(key=KEY) as stuck, simulator(key=KEY) as well:
        run(scenario(stuck, well))


def test_no_client_can_have_a_replica_ejected(tmp_path: Path) -> None:
    """Bad bodies, bodies that are too long and clients that leave: nobody is avoided for them."""

    async def scenario(engine: Simulator) -> None:
        state = agent_state(tmp_path / "agent", engine.port)
        async with gateway(tmp_path / "gateway", state) as running:
            for _ in range(10):
                assert (await ask(running, messages="wrong")).status_code == 400
                assert (await ask(running, max_tokens=10_000_000)).status_code == 400
            async with httpx.AsyncClient(base_url=running.url, headers=AUTHORIZED) as client:
                for _ in range(10):
                    with pytest.raises(httpx.ReadTimeout):
                        await client.post(URL, json={**CHAT, "max_tokens": 2000}, timeout=0.05)
                metrics = (await client.get("/metrics")).text
            assert "ejections_total{" not in metrics

    with simulator("--decode-step-s", "0.05", key=KEY) as engine:
        run(scenario(engine))


@pytest.mark.parametrize(
    ("store", "headers", "asked"),
    [(None, {}, 1), (None, {"idempotency-key": "k-1"}, 2), (False, {}, 2)],
)
def test_only_what_may_happen_twice_is_sent_twice(
    tmp_path: Path, store: bool | None, headers: dict[str, str], asked: int
) -> None:
    """A response that shall be stored is not asked for again, unless the client's own key makes it safe."""

    async def scenario() -> None:
        async def dies(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            writer.close()

        async with upstream(dies) as one, upstream(dies) as two:
            state = agent_state(tmp_path / "agent", one.port, two.port)
            async with gateway(tmp_path / "gateway", state) as running, httpx.AsyncClient() as client:
                body = {"model": "chat", "input": "hello", **({} if store is None else {"store": store})}
                answer = await client.post(
                    running.url + "/v1/responses", json=body, headers={**AUTHORIZED, **headers}
                )
                assert answer.status_code == 502
                assert len(one.received) + len(two.received) == asked

    run(scenario())


def test_a_kept_connection_that_ends_is_no_reason_to_store_twice(tmp_path: Path) -> None:
    """What may not be sent again goes on a fresh connection: on a kept one nobody could tell whether it came."""

    async def scenario() -> None:
        async def answers_once(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            if len(engine.received) == 1:
                writer.write(ANSWER)
            else:
                writer.close()

        async with upstream(answers_once) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state) as running, httpx.AsyncClient() as client:
                body = {"model": "chat", "input": "hello"}
                url = running.url + "/v1/responses"
                assert (await client.post(url, json=body, headers=AUTHORIZED)).status_code == 200
                assert (await client.post(url, json=body, headers=AUTHORIZED)).status_code == 502
                assert len(engine.received) == 2

    run(scenario())


def test_a_new_replica_starts_without_a_past(tmp_path: Path) -> None:
    """What was held against a replica that has gone is held against nobody."""

    async def scenario() -> None:
        async def dies(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            writer.close()

        async with upstream(dies) as one, upstream(sends(ANSWER)) as two:
            state = agent_state(tmp_path / "agent", one.port)
            async with (
                agent(state.directory) as plane,
                gateway(tmp_path / "gateway", state, ejection_s=20, hold_timeout_s=0.5) as running,
            ):
                # Sent again to the same one, or held for another until the time was over: which comes first is open.
                assert (await ask(running)).status_code in (502, 503)
                await plane.hears(lambda m: isinstance(m, LoadReport) and bool(m.ejected), "an ejection")
                plane.heard.clear()
                plane.push(
                    EndpointSet(endpoint_generation=2, endpoints=(endpoint(two.port, replica_id="next"),))
                )
                await eventually_async(lambda: asked_ok(running))
                await plane.hears(lambda m: isinstance(m, LoadReport) and not m.ejected, "none")

    async def asked_ok(running: Running) -> bool:
        return (await ask(running)).status_code == 200

    run(scenario())
