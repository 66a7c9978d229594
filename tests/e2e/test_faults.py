"""Parts of the running system are killed; its users go on."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.e2e.system import CHECKOUT, Stream, System
from tests.support.waiting import eventually

pytestmark = pytest.mark.e2e

#: How long the control plane stays away.
AWAY_S = float(os.environ.get("MERIDIAN_AWAY_S", "60"))
#: As long as the example model's context allows.
STREAM_TOKENS = 450


@pytest.fixture
def simulated(system: System, request: pytest.FixtureRequest) -> Iterator[str]:
    """A deployment on simulators, one replica in each region. Each test has a name of its own: usage is kept
    by name, also after a deployment is deleted.
    """
    name = request.node.name.removeprefix("test_").replace("_", "-")
    system.deploy(
        name=name,
        model="tiny-llama",
        engine="simulator",
        survivability="region",
        autoscaling={"min_replicas": 2, "max_replicas": 3},
    )
    try:
        yield name
    finally:
        system.delete(name)


def _replica_processes(replica_id: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if replica_id in process.environ().get("MERIDIAN_REPLICA_ID", ""):
                found.append(process)
        except psutil.Error:
            continue
    return found


def _ask(system: System, model: str, gateway: str | None = None, **options: Any) -> int:
    """One chat; the tokens that its client is told it had."""
    answer = system.openai(gateway, **options).chat.completions.create(
        model=model, messages=[{"role": "user", "content": "Hello"}], max_tokens=8
    )
    assert answer.choices[0].message.content
    assert answer.usage
    return answer.usage.completion_tokens


def test_killed_replica_is_replaced(system: System, simulated: str) -> None:
    """`kill -9` of a replica: the next request is served, and another replica takes its place."""
    victim = next(r for r in system.replicas(simulated) if r["state"] == "ready")
    for process in _replica_processes(victim["id"]):
        process.kill()
    for gateway in system.endpoints()["gateways"]:
        assert _ask(system, simulated, gateway)

    def replaced() -> bool:
        ready = {r["id"] for r in system.replicas(simulated) if r["state"] == "ready"}
        return len(ready) == 3 and victim["id"] not in ready

    eventually(replaced, within_s=30, what="three replicas are ready, the killed one not among them")
    assert not _replica_processes(victim["id"])


def test_control_plane_away_for_a_minute(system: System, simulated: str) -> None:
    """Web, worker, beat, PostgreSQL and Valkey dead for 60 s: running streams end well, new requests are served,
    agent and gateway restart from their disks meanwhile; when it is back nothing is doubled and nothing lost.
    """
    first, *others = list(system.endpoints()["gateways"])
    before = {replica["id"] for replica in system.replicas(simulated)}
    running = [
        Stream(system.openai(others[number % len(others)]), simulated, max_tokens=STREAM_TOKENS)
        for number in range(20)
    ]
    eventually(lambda: all(stream.started() for stream in running), within_s=30, what="20 streams run")
    told: list[int] = []
    grows = system.deploy(
        name="grows",
        model="tiny-llama",
        engine="simulator",
        autoscaling={
            "min_replicas": 1,
            "max_replicas": 3,
            "concurrency_target": 1,
            "autoscaling_window_s": 4,
        },
    )
    with system.without_control_plane():
        began = time.monotonic()
        old = system.endpoints()["pids"]
        mortal = (f"agent-{system.cluster_in(first)}", f"gateway-{system.cluster_in(first)}")
        system.kill(*mortal)

        def restarted() -> bool:
            pids = system.endpoints()["pids"]
            return all(pids.get(part, old[part]) != old[part] for part in mortal)

        eventually(restarted, within_s=20, what="agent and gateway are started again")
        eventually(
            lambda: _answers(system, simulated, first, told),
            within_s=30,
            what=f"{first} serves from its disk",
        )
        _grow_within_bounds(system, grows, most=3)
        while time.monotonic() - began < AWAY_S:
            told.extend(_ask(system, simulated, gateway) for gateway in system.endpoints()["gateways"])
        for stream in running:
            ended = stream.result()
            assert ended.error is None
            assert ended.usage_tokens == STREAM_TOKENS
    assert len(told) >= 30
    eventually(
        lambda: {r["id"] for r in system.replicas(simulated) if r["state"] == "ready"} == before,
        within_s=60,
        what="the same replicas as before, none doubled",
    )

    def all_usage_stored() -> bool:
        with system.api() as client:
            totals = client.get("/usage", params={"deployment": simulated}).json()
        stored = sum(total["output_tokens"] for total in totals["items"])
        return bool(stored == 20 * STREAM_TOKENS + sum(told))

    eventually(all_usage_stored, within_s=60, what="usage from the time away is stored, once")
    system.delete("grows", within_s=120)


def _grow_within_bounds(system: System, deployment: dict[str, Any], *, most: int) -> None:
    """Load makes replicas start with the control plane dead, as many as the last bounds allow and no more."""
    counted: list[int] = []
    streams: list[Stream] = []
    deadline = time.monotonic() + 60.0
    while not counted or counted[-1] < most:
        assert time.monotonic() < deadline, f"load adds no replica: {counted}"
        running = [stream for stream in streams if not stream.ended()]
        streams += [
            Stream(system.openai(), deployment["name"], max_tokens=STREAM_TOKENS)
            for _ in range(6 - len(running))
        ]
        counted.append(_ready_by_gateways(system, deployment["id"]))
        time.sleep(0.2)
    assert max(counted) == most
    assert [stream.result().error for stream in streams] == [None] * len(streams)


def _ready_by_gateways(system: System, deployment_id: str) -> int:
    """Ready replicas as all gateways count them: the API is away."""
    found = 0
    for url in system.endpoints()["gateways"].values():
        for line in httpx.get(f"{url}/metrics", timeout=10).text.splitlines():
            if line.startswith("meridian_gateway_ready_replicas") and deployment_id in line:
                found += int(float(line.rpartition(" ")[2]))
    return found


def _answers(system: System, model: str, gateway: str, told: list[int]) -> bool:
    try:
        told.append(_ask(system, model, gateway))
    except Exception:  # whatever it says, it does not serve yet
        return False
    return True


def test_second_agent_with_one_identity_is_noticed(system: System, tmp_path: Path) -> None:
    """A copy of an agent's state started beside it: the older epoch is refused and both stop scaling."""
    region = next(iter(system.endpoints()["gateways"]))
    cluster = system.cluster_in(region)
    plane = system.state / "planes" / cluster
    copy = tmp_path / "agent"
    engines = _engines(system)
    shutil.copytree(
        plane / "agent", copy, ignore=shutil.ignore_patterns("*.sock", "replicas", "*.lock", "lock", "*.tmp")
    )
    endpoints = system.endpoints()
    arguments = [sys.executable, "-m", "workloadplane.agent", "--state-dir", str(copy)]
    arguments += ["--gateway-state-dir", str(tmp_path / "gateway"), "--control-url", endpoints["api"]]
    arguments += [
        "--gateway-url",
        endpoints["gateways"][region],
        "--enrolment-token-file",
        str(tmp_path / "none"),
    ]
    arguments += ["--engines-dir", str(tmp_path / "engines"), "--cache-dir", str(tmp_path / "cache")]
    arguments += ["--substitute", "vllm=simulator"]
    twin = subprocess.Popen(arguments, cwd=CHECKOUT, env=system.environment(), start_new_session=True)
    try:

        def noticed() -> bool:
            with system.api() as client:
                events = client.get("/events", params={"limit": 200}).json()["items"]
            return any(event["reason"] == "DuplicateAgent" for event in events)

        eventually(noticed, within_s=30, what="an event says that two agents live")
        assert _ask(system, "chat", region)
    finally:
        os.killpg(twin.pid, signal.SIGKILL)
        twin.wait()
        leave_nothing = [
            sys.executable,
            "-m",
            "workloadplane.agent",
            "stop-replicas",
            "--state-dir",
            str(copy),
        ]
        subprocess.run(leave_nothing, cwd=CHECKOUT, check=True)
    _enrol_again(system, cluster)
    eventually(lambda: _engines(system) == engines, within_s=200, what="the example runs as before")
    assert _ask(system, "chat", region)


def _engines(system: System) -> dict[str, str]:
    """The example's ready replicas: cluster -> engine."""
    return {r["cluster"]: r["engine"] for r in system.replicas("chat") if r["state"] == "ready"}


def _enrol_again(system: System, cluster: str) -> None:
    """What an operator does: a new enrolment token for the agent that is to stay."""
    with system.api() as client:
        answer = client.post(f"/clusters/{cluster}/enrolment-tokens")
        assert answer.status_code == 201, answer.text
        token = answer.json()["token"]
    (system.state / "planes" / cluster / "enrolment-token").write_text(token + "\n")
    system.kill(f"agent-{cluster}")

    def connected() -> bool:
        with system.api() as client:
            heard = bool(client.get(f"/clusters/{cluster}").json()["connected"])
        return heard and f"agent-{cluster}" in system.endpoints()["pids"]

    eventually(connected, within_s=60, what=f"{cluster} is connected again")
