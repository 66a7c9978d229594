"""The program itself: from disk alone, beside an agent, and to an orderly end."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

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
    run,
    sends,
    upstream,
)
from tests.support.tables import api_key, header, revision, route
from tests.support.waiting import eventually_async
from workloadplane.protocol.local import Acknowledgement, Hello, TablePush
from workloadplane.protocol.spool import SpoolReader

CHAT = {"model": "chat", "messages": []}
URL = "/v1/chat/completions"


class Program:
    """``python -m workloadplane.gateway`` as a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def program(agent_state_dir: Path, state_dir: Path, *options: str) -> AsyncIterator[Program]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "workloadplane.gateway", "--agent-state-dir", str(agent_state_dir),
        "--state-dir", str(state_dir), "--port", "0", *options,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        while line := await process.stderr.readline():
            told = json.loads(line)
            if told["event"] == "gateway serves":
                break
        yield Program(process, told["port"])
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def test_it_serves_from_disk_with_agent_and_control_plane_dead(tmp_path: Path) -> None:
    """A restarted gateway needs nothing but the files that the agent left."""

    async def scenario() -> None:
        async with upstream(sends(json_answer(b"{}"))) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            for _ in range(2):
                async with program(state.directory, tmp_path / "gateway") as running:
                    async with httpx.AsyncClient(base_url=running.url, headers=AUTHORIZED) as client:
                        assert (await client.get("/readyz")).status_code == 200
                        assert (await client.post(URL, json=CHAT)).status_code == 200
                    running.process.send_signal(signal.SIGKILL if _ == 0 else signal.SIGTERM)
                    await running.process.wait()

    run(scenario())


def test_sigterm_finishes_streams_and_loses_no_usage(tmp_path: Path) -> None:
    """After SIGTERM nothing new is accepted, what runs is finished and written down, and the exit is clean."""

    async def scenario() -> None:
        async def script(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            writer.write(SSE_HEAD + chunk(b"data: {}\n\n"))
            await release.wait()
            writer.write(chunk(b"data: [DONE]\n\n") + chunk(b""))

        release = asyncio.Event()
        async with upstream(script) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with (
                program(state.directory, tmp_path / "gateway") as running,
                httpx.AsyncClient(base_url=running.url, headers=AUTHORIZED) as client,
                client.stream("POST", URL, json={**CHAT, "stream": True}) as response,
            ):
                stream = response.aiter_raw()
                assert await anext(stream) == b"data: {}\n\n"
                running.process.terminate()

                async def refused() -> bool:
                    try:
                        async with httpx.AsyncClient() as other:
                            await other.get(running.url + "/livez")
                    except httpx.ConnectError:
                        return True
                    return False

                await eventually_async(refused, what="new connections are refused")
                release.set()
                assert b"".join([data async for data in stream]) == b"data: [DONE]\n\n"
                assert await running.process.wait() == 0
            (record,) = SpoolReader(tmp_path / "gateway" / "spool").pending(10).usage
            assert record.outcome == "ok"

    run(scenario())


def test_the_end_has_a_bound_and_is_said(tmp_path: Path) -> None:
    """A stream that does not end in time is ended with an error event."""

    async def scenario() -> None:
        async def script(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            writer.write(SSE_HEAD + chunk(b"data: {}\n\n"))
            await reader.read()

        async with upstream(script) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with (
                program(state.directory, tmp_path / "gateway", "--drain-timeout-s", "0.3") as running,
                httpx.AsyncClient(base_url=running.url, headers=AUTHORIZED) as client,
                client.stream("POST", URL, json={**CHAT, "stream": True}) as response,
            ):
                stream = response.aiter_raw()
                assert await anext(stream) == b"data: {}\n\n"
                running.process.terminate()
                rest = b"".join([data async for data in stream])
                assert rest.startswith(b"event: error\n")
                assert b'"code":"shutting_down"' in rest
                assert await running.process.wait() == 0

    run(scenario())


def test_wrong_options_are_one_line(tmp_path: Path) -> None:
    """A busy port and a senseless limit each end the program with one clear line."""

    def ended(*options: str) -> tuple[int, str]:
        result = subprocess.run(
            [sys.executable, "-m", "workloadplane.gateway", "--agent-state-dir", str(tmp_path / "agent"),
             "--state-dir", str(tmp_path / "gateway"), *options],
            capture_output=True, text=True, check=False, timeout=20,
        )  # fmt: skip
        return result.returncode, result.stderr.strip().splitlines()[-1]

    async def scenario() -> None:
        async with upstream(sends()) as engine:
            code, line = await asyncio.to_thread(ended, "--port", str(engine.port))
            assert code == 1
            assert str(engine.port) in line
        code, line = await asyncio.to_thread(ended, "--port", "0", "--body-bytes-max", "0")
        assert code == 2
        assert "--body-bytes-max" in line

    run(scenario())


@pytest.mark.parametrize(
    "name", ["tables/routing.json", "tables/keyset.json", "endpoints.json", "identity.json"]
)
def test_damaged_files_are_passed_over(tmp_path: Path, name: str) -> None:
    """A flipped bit or a cut file leaves the gateway alive and not ready, never serving something else.

    It says so, instead of telling a client that its key or its model does not exist.
    """

    async def scenario() -> None:
        state = agent_state(tmp_path / "agent", 1)
        file = state.directory / name
        whole = file.read_bytes()
        for number, damaged in enumerate((whole[:-1], whole[:100] + b"#" + whole[101:], b"")):
            file.write_bytes(damaged)
            async with (
                gateway(tmp_path / f"gateway-{number}", state) as running,
                httpx.AsyncClient(base_url=running.url) as client,
            ):
                assert (await client.get("/livez")).status_code == 200
                assert (await client.get("/readyz")).status_code == 503
                if name != "endpoints.json":
                    for path in (URL, "/v1/models"):
                        answer = await client.request(
                            "POST" if path == URL else "GET", path, headers=AUTHORIZED
                        )
                        assert (answer.status_code, answer.json()["error"]["code"]) == (
                            503,
                            "gateway_starting",
                        )
                        assert answer.headers["retry-after"] == "1"

    run(scenario())


def test_what_the_agent_pushes_is_verified_in_force_and_acknowledged(tmp_path: Path) -> None:
    """Tables and endpoints take effect at once; a forged or older one is answered with what is held."""

    async def scenario() -> None:
        state = agent_state(tmp_path / "agent")
        signer, cluster = state.signer, state.cluster_id

        def routing(generation: int, name: str) -> TablePush:
            routes = [route(name, revisions=(revision((cluster,)),))]
            table = signer.routing(header(cluster), routes, audience=cluster, generation=generation)
            return TablePush(kind="routing", table=table)

        async with (
            upstream(sends(json_answer(b"{}"))) as engine,
            agent(state.directory) as plane,
            gateway(tmp_path / "gateway", state) as running,
            httpx.AsyncClient(base_url=running.url, headers=AUTHORIZED) as client,
        ):
            hello = await plane.hears(lambda m: isinstance(m, Hello), "hello")
            assert hello.pid == os.getpid()

            async def acknowledged(kind: str, generation: int) -> None:
                wanted = Acknowledgement(kind=kind, generation=generation)
                await plane.hears(lambda m: m == wanted, f"{kind} {generation} in force")
                plane.heard.clear()

            async def models() -> list[str]:
                return [model["id"] for model in (await client.get("/v1/models")).json()["data"]]

            plane.push(state.identity())
            plane.push(routing(7, "renamed"))
            await acknowledged("routing", 7)
            assert await models() == ["renamed"]
            plane.push(routing(6, "older"))
            await acknowledged("routing", 7)
            forged = routing(8, "forged").table
            plane.push(TablePush(kind="routing", table=type(forged)(manifest=forged.manifest, entries={})))
            await acknowledged("routing", 7)
            assert await models() == ["renamed"]

            plane.push(endpoints(5, engine.port))
            await acknowledged("endpoints", 5)
            plane.push(endpoints(4))
            await acknowledged("endpoints", 5)

            keys = signer.keyset([api_key("sk-new")], audience=cluster, generation=2)
            plane.push(TablePush(kind="keyset", table=keys))
            await acknowledged("keyset", 2)
            assert (await client.get("/v1/models")).status_code == 401, "the revoked key is out at once"
            client.headers["authorization"] = "Bearer sk-new"
            assert await models() == ["renamed"]

    run(scenario())


def test_an_agent_that_comes_and_goes_changes_nothing(tmp_path: Path) -> None:
    """Requests go on while the agent is away, and a new agent is found and greeted."""

    async def scenario() -> None:
        async with upstream(sends(json_answer(b"{}"))) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with (
                gateway(tmp_path / "gateway", state) as running,
                httpx.AsyncClient(base_url=running.url, headers=AUTHORIZED) as client,
            ):
                for _ in range(3):
                    async with agent(state.directory) as plane:
                        await plane.hears(lambda m: isinstance(m, Hello), "hello")
                        assert (await client.post(URL, json=CHAT)).status_code == 200
                    assert (await client.post(URL, json=CHAT)).status_code == 200

    run(scenario())
