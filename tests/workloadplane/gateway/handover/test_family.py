"""Several processes on one port: each deployment has one queue, and a process that dies takes only its own along."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.gateway import (
    AUTHORIZED,
    SSE_HEAD,
    Received,
    Script,
    Upstream,
    agent_state,
    chunk,
    json_answer,
    post,
    run,
    upstream,
)
from tests.support.gateway_program import Program, program
from tests.support.tables import api_key, endpoint, header, revision, route
from tests.support.waiting import eventually_async
from tests.support.websocket import Engine, connect, handshake
from workloadplane.gateway.handover.shards import Shards, ranked
from workloadplane.protocol.local import EndpointSet
from workloadplane.protocol.statefile import write_state

TWO = ("--processes", "2", "--take-over")
#: A deployment whose queue is owned by process 0, and one of process 1.
OWNED = {
    index: next(f"d{n}" for n in range(100) if ranked(f"project-1-d{n}", 2)[0] == index) for index in (0, 1)
}


def state_of(directory: Path, port: int, *, max_in_flight: int = 0) -> Path:
    """An agent's state with both deployments, one replica each, at one engine."""
    state = agent_state(directory)
    cluster = state.cluster_id
    names = list(OWNED.values())
    state.write(
        routing=state.signer.routing(
            header(cluster),
            [route(name, revisions=(revision((cluster,), revision_id=f"{name}-1"),)) for name in names],
            audience=cluster,
        ),
        keyset=state.signer.keyset(
            [api_key("sk-test"), api_key("sk-other", api_key_id="key-2")], audience=cluster
        ),
        endpoints=EndpointSet(endpoint_generation=1, endpoints=()),
    )
    replicas = tuple(
        msgspec.structs.replace(
            endpoint(
                port, replica_id=f"r-{name}", deployment_id=f"project-1-{name}", revision_id=f"{name}-1"
            ),
            served_model=name,
            max_in_flight=max_in_flight,
        )
        for name in names
    )
    write_state(
        directory / "endpoints.json",
        msgspec.json.encode(EndpointSet(endpoint_generation=1, endpoints=replicas)),
    )
    return state.directory


async def instance(port: int, model: str, *, body: bytes = b"", key: str = "sk-test") -> str:
    """Which process answered, on a connection of its own: ids of requests begin with its name."""
    sent = b'{"model":"%s","messages":[],"pad":"%s"}' % (model.encode(), body)
    request = post(sent).replace(b"sk-test", key.encode())
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200 "), answer[:300]
    return answer.partition(b"x-request-id: ")[2].split(b"\r\n")[0].decode().split("-")[1]


def children(running: Program) -> dict[int, int]:
    """Process ids by index."""
    found: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            pid = int(entry.name)
            status = (entry / "stat").read_text().rpartition(")")[2].split()
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
            if int(status[1]) == running.process.pid and status[0] != "Z":
                found[int(arguments[arguments.index(b"--process-index") + 1])] = pid
    return found


async def plain(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(json_answer(b"{}"))


@contextlib.asynccontextmanager
async def _ended(running: Program) -> AsyncIterator[None]:
    """The block, then an orderly end of the whole family."""
    yield
    running.process.terminate()
    assert await asyncio.wait_for(running.process.wait(), 10) == 0


async def _serve(running: Program) -> None:
    await eventually_async(lambda: "gateway processes serve" in str(running.told), what="both serve")


@pytest.mark.slow
def test_each_deployment_is_served_by_its_owner(tmp_path: Path) -> None:
    """Wherever a connection lands, the owner answers; small bodies and large ones, requests and sessions."""

    async def scenario() -> None:
        async with upstream(plain) as engine:
            directory = state_of(tmp_path / "agent", engine.port)
            async with program(directory, tmp_path / "gateway", *TWO) as running, _ended(running):
                await _serve(running)
                by_model = {
                    name: {await instance(running.port, name) for _ in range(24)} for name in OWNED.values()
                }
                assert all(len(instances) == 1 for instances in by_model.values()), by_model
                assert len(set.union(*by_model.values())) == 2
                for name, instances in by_model.items():
                    big = b"x" * 3_000_000
                    assert {await instance(running.port, name, body=big) for _ in range(4)} == instances
                async with httpx.AsyncClient(base_url=running.url, headers=AUTHORIZED) as client:
                    # One connection, that goes to and fro.
                    for _ in range(10):
                        for name in OWNED.values():
                            answer = await client.post(
                                "/v1/chat/completions", json={"model": name, "messages": []}
                            )
                            assert answer.headers["x-request-id"].split("-")[1] in by_model[name]
                    counts = []
                    for index in (0, 1):
                        text = (await client.get(f"/metrics?process={index}")).text
                        lines = [x for x in text.splitlines() if x.startswith("meridian_gateway_requests_t")]
                        counts.append(sum(float(line.rsplit(" ", 1)[1]) for line in lines))
                    assert counts == [38.0, 38.0]

    run(scenario(), within_s=60)


@pytest.mark.slow
def test_sessions_go_to_the_owner(tmp_path: Path) -> None:
    """A handshake that names its model is passed on before it is answered."""

    async def scenario() -> None:
        async def quiet(engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await engine.gather(reader)

        async with upstream(Engine(quiet).script) as engine:
            directory = state_of(tmp_path / "agent", engine.port)
            async with program(directory, tmp_path / "gateway", *TWO) as running, _ended(running):
                await _serve(running)
                for name in OWNED.values():
                    seen = set()
                    for _ in range(12):
                        head, _, writer = await connect(running.port, handshake(f"/v1/realtime?model={name}"))
                        seen.add(head.partition(b"x-request-id: req-")[2].split(b"-")[0])
                        writer.close()
                    assert len(seen) == 1

    run(scenario())


@pytest.mark.slow
def test_the_queues_bounds_and_fairness_hold_across_processes(tmp_path: Path) -> None:
    """A replica never computes more than it can, the queue is as long as it may be once, and tenants take turns."""

    async def scenario() -> None:
        running_now, most, order = 0, 0, list[str]()
        go = asyncio.Event()

        async def one_at_a_time(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            nonlocal running_now, most
            running_now += 1
            most = max(most, running_now)
            await go.wait()
            order.append(msgspec.json.decode(received.body)["user"])
            await asyncio.sleep(0.01)
            running_now -= 1
            writer.write(json_answer(b'{"usage":{"prompt_tokens":10,"completion_tokens":10}}'))

        async with upstream(one_at_a_time) as engine:
            directory = state_of(tmp_path / "agent", engine.port, max_in_flight=1)
            async with (
                program(directory, tmp_path / "gateway", *TWO, "--hold-requests-max", "24") as running,
                _ended(running),
            ):
                await _serve(running)
                statuses: Counter[int] = Counter()

                async def ask(key: str, user: str) -> None:
                    body = {"model": OWNED[1], "messages": [], "user": user}
                    async with httpx.AsyncClient(timeout=30) as client:
                        response = await client.post(
                            running.url + "/v1/chat/completions",
                            json=body,
                            headers={"authorization": f"Bearer {key}"},
                        )
                    statuses[response.status_code] += 1

                many = [asyncio.create_task(ask("sk-test", "many")) for _ in range(20)]
                await eventually_async(lambda: running_now == 1, what="one is computed")
                await eventually_async(lambda: _waiting(engine, many), what="the others wait")
                few = [asyncio.create_task(ask("sk-other", "few")) for _ in range(3)]
                more = [asyncio.create_task(ask("sk-test", "many")) for _ in range(12)]
                await eventually_async(lambda: statuses[429] + statuses[503] >= 10, what="the queue is full")
                go.set()
                await asyncio.gather(*many, *few, *more)
                assert most == 1, "one process alone sends to the replica"
                assert statuses[200] == 25, "one that was computed and as many as may wait, not twice as many"
                assert "few" in order
                assert max(at for at, user in enumerate(order) if user == "few") < 12, order

    run(scenario(), within_s=60)


async def _waiting(engine: Upstream, many: list[asyncio.Task[None]]) -> bool:
    await asyncio.sleep(0.3)
    return engine.connections == 1 and not any(task.done() for task in many)


def _held(release: asyncio.Event) -> Script:
    """Answers at once; streams begin at once, and end once they are let go."""

    async def script(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"stream" not in received.body:
            writer.write(json_answer(b"{}"))
            return
        writer.write(SSE_HEAD + chunk(b'data: {"choices":[]}\n\n'))
        await release.wait()
        writer.write(chunk(b"data: [DONE]\n\n") + chunk(b""))

    return script


@pytest.mark.slow
def test_a_killed_process_takes_only_its_own_along(tmp_path: Path) -> None:
    """Streams of the other one go on; the dead one's deployments are served at once by it, and later by the new one."""

    async def scenario() -> None:
        release = asyncio.Event()
        async with upstream(_held(release)) as engine:
            directory = state_of(tmp_path / "agent", engine.port)
            async with program(directory, tmp_path / "gateway", *TWO) as running, _ended(running):
                await _serve(running)
                streams = {
                    index: [await _stream(running.port, OWNED[index]) for _ in range(12)] for index in OWNED
                }
                before = children(running)
                os.kill(before[1], signal.SIGKILL)
                for reader, _ in streams[1]:
                    with contextlib.suppress(ConnectionError):
                        assert b"[DONE]" not in await reader.read()
                served: Counter[str] = Counter()
                for _ in range(10):
                    with contextlib.suppress(ConnectionError):  # its own accept queue went along
                        served[await instance(running.port, OWNED[1])] += 1
                assert served
                release.set()
                for reader, writer in streams[0]:
                    assert b"[DONE]" in await reader.read()
                    writer.close()

                def is_back() -> bool:
                    now = children(running)
                    return now.get(1, before[1]) != before[1] and now[0] == before[0]

                await eventually_async(is_back, what="a new process in its place")

                async def owns_again() -> bool:
                    owners = {await instance(running.port, OWNED[1]) for _ in range(6)}
                    zeros = {await instance(running.port, OWNED[0]) for _ in range(6)}
                    return len(owners) == 1 and len(zeros) == 1 and owners != zeros

                await eventually_async(owns_again, what="its deployments back")

    run(scenario(), within_s=60)


@pytest.mark.slow
def test_children_of_a_killed_parent_finish_and_end(tmp_path: Path) -> None:
    """Nobody is left running: what they have begun is finished, and a new family takes their place meanwhile."""

    async def scenario() -> None:
        release = asyncio.Event()
        async with upstream(_held(release)) as engine:
            directory = state_of(tmp_path / "agent", engine.port)
            async with program(directory, tmp_path / "gateway", *TWO) as running:
                await _serve(running)
                streams = [await _stream(running.port, name) for name in OWNED.values()]
                orphans = children(running)
                assert len(orphans) == 2
                running.process.kill()
                await running.process.wait()
                await eventually_async(lambda: str(running.told).count("gateway drains") == 2)
                options = ("--port", str(running.port), *TWO)
                async with program(directory, tmp_path / "gateway", *options) as new, _ended(new):
                    await _serve(new)
                    for name in OWNED.values():
                        await instance(new.port, name)
                    release.set()
                    for reader, writer in streams:
                        assert b"[DONE]" in await reader.read()
                        writer.close()
                    await eventually_async(lambda: not any(map(_runs, orphans.values())), what="they ended")
                    for name in OWNED.values():
                        await instance(new.port, name)

    run(scenario(), within_s=60)


def _runs(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return status != "Z"


async def _stream(port: int, model: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """An answer that has begun."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(post(b'{"model":"%s","messages":[],"stream":true}' % model.encode()))
    await reader.readuntil(b"\n\n")
    return reader, writer


@pytest.mark.slow
def test_a_family_is_upgraded_as_one(tmp_path: Path) -> None:
    """Both processes are succeeded, and the old program ends; connections are served throughout."""

    async def scenario() -> None:
        async with upstream(plain) as engine:
            directory = state_of(tmp_path / "agent", engine.port)
            async with program(directory, tmp_path / "gateway", *TWO) as old:
                await _serve(old)
                stop = asyncio.Event()
                seen: Counter[str] = Counter()

                async def ask(name: str) -> None:
                    while not stop.is_set():
                        seen[await instance(old.port, name)] += 1

                asking = [asyncio.create_task(ask(name)) for name in OWNED.values()]
                options = ("--port", str(old.port), *TWO)
                async with program(directory, tmp_path / "gateway", *options) as new, _ended(new):
                    await _serve(new)
                    assert await asyncio.wait_for(old.process.wait(), 10) == 0
                    stop.set()
                    await asyncio.gather(*asking)
                    assert len(seen) == 4, "two old ones, two new ones"

    run(scenario(), within_s=60)


@pytest.mark.parametrize("options", [("--processes", "0"), ("--processes", "2", "--process-index", "2")])
def test_wrong_numbers_of_processes_are_one_line(tmp_path: Path, options: tuple[str, ...]) -> None:
    """An impossible number ends the program with what is possible."""
    command = [sys.executable, "-m", "workloadplane.gateway", "--agent-state-dir", str(tmp_path)]
    command += ["--state-dir", str(tmp_path / "gateway"), "--port", "0", *options]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert ended.returncode == 2
    assert options[-2] in ended.stderr.splitlines()[-1]


@pytest.mark.slow
def test_a_family_that_cannot_serve_ends(tmp_path: Path) -> None:
    """A child that fails at its first start ends the program, instead of being started for ever."""
    (tmp_path / "gateway").touch()
    command = [sys.executable, "-m", "workloadplane.gateway", "--agent-state-dir", str(tmp_path)]
    command += ["--state-dir", str(tmp_path / "gateway"), "--port", "0", "--processes", "2"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert ended.returncode == 1
    assert str(tmp_path / "gateway") in ended.stderr


@given(deployment=st.text(max_size=40), count=st.integers(1, 16), data=st.data())
def test_all_processes_agree_on_the_owner(deployment: str, count: int, data: st.DataObject) -> None:
    """Whoever is asked, the same process owns a deployment; one that is away is stood in for by one other."""
    rank = ranked(deployment, count)
    assert sorted(rank) == list(range(count))
    everyone = [Shards(index, count) for index in range(count)]
    assert {each.owner(deployment, 0.0) for each in everyone} == {rank[0]}
    away = data.draw(st.sets(st.integers(0, count - 1), max_size=count - 1))
    alive = [each for each in everyone if each.index not in away]
    for each in alive:
        for index in away:
            each.note_away(index, 0.0)
    assert {each.owner(deployment, 0.5) for each in alive} == {next(i for i in rank if i not in away)}
    assert {each.owner(deployment, 10.0) for each in alive} == {rank[0]}
