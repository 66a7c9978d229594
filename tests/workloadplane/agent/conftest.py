"""A cluster for a test: a fake control plane, a real agent process, real simulated replicas."""

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from tests.support.fake_control_plane import CLUSTER_ID, CLUSTER_NAME, FakeControlPlane
from tests.support.fake_gateway import FakeGateway
from tests.support.tables import api_key, header, revision, route
from tests.support.waiting import eventually
from workloadplane.agent.disk import ObservedFile
from workloadplane.protocol.desired import (
    AutoscalingBounds,
    DesiredAssignment,
    DesiredHeader,
    EngineSource,
    ModelSource,
    PoolBound,
)
from workloadplane.protocol.routing import KeySetHeader
from workloadplane.protocol.socketpath import agent_socket
from workloadplane.protocol.statefile import read_state
from workloadplane.protocol.tables import Table
from workloadplane.runtimes.process import stop_all

DEPLOYMENT, REVISION, POOL, SPOT = "project-1-chat", "chat-1", "pool-1", "pool-2"


def assignment(name: str = "assignment-1", **changes: Any) -> DesiredAssignment:
    """One replica of the simulator, unless told otherwise; ``min_replicas`` and the like go to the bounds."""
    bounds: dict[str, Any] = {
        "min_replicas": 1,
        "max_replicas": 2,
        "autoscaling_window_s": 4.0,
        "scale_down_delay_s": 0.0,
        "concurrency_target": 2.0,
        "policy": "kpa",
        "slo_ttft_s_p95": None,
    }
    bounds.update({key: changes.pop(key) for key in list(changes) if key in bounds})
    base = DesiredAssignment(
        assignment_id=name,
        deployment_id=DEPLOYMENT,
        deployment="chat",
        project_id="project-1",
        revision_id=REVISION,
        revision=1,
        pool_id=POOL,
        gpus_per_replica=1,
        autoscaling=AutoscalingBounds(**bounds),
        model=ModelSource(
            name="tiny-llama",
            version="1",
            digest="sha256:" + "0" * 64,
            source_uri="file:///nowhere",
            precision="float32",
            max_context_tokens=512,
        ),
        engine=EngineSource(engine="vllm", version="0.32.0", image_digest="sha256:" + "1" * 64, arguments={}),
    )
    return msgspec.structs.replace(base, **changes)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def lives(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not yet reaped does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@dataclass
class Cluster:
    """What a test drives. Agents and replicas are stopped when the test ends."""

    root: Path
    plane: FakeControlPlane
    agents: list[subprocess.Popen[bytes]] = field(default_factory=list)
    capacity_gpus: int = 4
    spot_gpus: int = 0
    cordoned: tuple[str, ...] = ()
    long_name: str = ""

    @property
    def state_dir(self) -> Path:
        return self.root / self.long_name / "agent"

    def command(self, module: str = "workloadplane.agent") -> list[str]:
        options = {
            "state-dir": self.state_dir,
            "gateway-state-dir": self.root / "gateway",
            "control-url": self.plane.url,
            "gateway-url": "http://127.0.0.1:9",
            "enrolment-token-file": self.root / "token",
            "engines-dir": self.root / "engines",
            "cache-dir": self.root / "cache",
            "substitute": "vllm=simulator",
        }
        given = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        return [sys.executable, "-m", module, *given]

    def start_agent(self, *, hasty: bool = False) -> subprocess.Popen[bytes]:
        command = self.command("tests.support.hasty_agent") if hasty else self.command()
        log = (self.root / "agent.log").open("ab")
        process = subprocess.Popen(command, stdout=log, stderr=log)
        log.close()
        self.agents.append(process)
        return process

    def want(self, *assignments: DesiredAssignment) -> Table:
        """The control plane now wants these."""
        pool = PoolBound(
            pool_id=POOL,
            name="h100",
            procurement="reserved",
            instance_type="h100.1",
            gpus_per_instance=1,
            capacity_gpus=self.capacity_gpus,
        )
        spot = msgspec.structs.replace(
            pool, pool_id=SPOT, name="spot", procurement="spot", capacity_gpus=self.spot_gpus
        )
        desired_header = DesiredHeader(
            cluster_id=CLUSTER_ID,
            cluster_name=CLUSTER_NAME,
            region="eu-west-1",
            jurisdiction="eu",
            pools=(pool, spot),
            cordoned=self.cordoned,
        )
        return self.plane.put("desired", desired_header, {a.assignment_id: a for a in assignments})

    def held_generation(self) -> int:
        """Of the table ``desired``, as the agent last said."""
        return self.plane.syncs[-1].held["desired"] if self.plane.syncs else 0

    def open_to(self, secret: str) -> None:
        """The API key ``secret`` may chat with ``chat``."""
        shares = (revision((CLUSTER_ID,), revision_id=REVISION),)
        routes = [route(scale_to_zero=True, revisions=shares)]
        self.plane.put("routing", header(CLUSTER_ID), {r.deployment_id: r for r in routes})
        keys = KeySetHeader(signing_keys=self.plane.signer.public)
        self.plane.put("keyset", keys, {"key-1": api_key(secret)})

    def start_gateway(self) -> str:
        """A real gateway process; its URL."""
        port = free_port()
        options = {"agent-state-dir": self.state_dir, "state-dir": self.root / "gateway", "port": port}
        given = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        log = (self.root / "gateway.log").open("ab")
        process = subprocess.Popen(
            [sys.executable, "-m", "workloadplane.gateway", *given], stdout=log, stderr=log
        )
        log.close()
        self.agents.append(process)

        def answers() -> bool:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return True
            return False

        eventually(answers, what="the gateway listens")
        return f"http://127.0.0.1:{port}"

    def until_log(self, text: str) -> None:
        """The agent has logged a line with ``text``."""
        eventually(lambda: text in (self.root / "agent.log").read_text(), within_s=20, what=f"log: {text}")

    def until_syncs(self, count: int) -> None:
        """The agent has synced so many times more: it had the time to do something wrong."""
        wanted = len(self.plane.syncs) + count
        eventually(lambda: len(self.plane.syncs) >= wanted, within_s=20, what=f"{count} more syncs")

    def in_state(self, state: str) -> list[str]:
        """Replicas that the control plane was told are in a state."""
        return sorted(r.replica_id for r in list(self.plane.replicas.values()) if r.state == state)

    def until_ready(self, count: int, *, within_s: float = 30.0) -> list[str]:
        return eventually(
            lambda: ready if len(ready := self.in_state("ready")) == count else None,
            within_s=within_s,
            what=f"{count} replicas ready",
        )

    def gateway(self, name: str = "gateway-1", *, acknowledges: bool = True) -> FakeGateway:
        def connect() -> FakeGateway | None:
            with contextlib.suppress(OSError):
                return FakeGateway(self.state_dir, name, acknowledges=acknowledges)
            return None

        return eventually(connect, what=f"{agent_socket(self.state_dir)} answers")

    def until_kept(self, replicas: list[str]) -> None:
        """The agent has written down that these are ready."""

        def kept() -> bool:
            content = read_state(self.state_dir / "observed.json")
            if not isinstance(content, bytes):
                return False
            observed = msgspec.json.decode(content, type=ObservedFile)
            return sorted(r.replica_id for r in observed.replicas if r.state == "ready") == replicas

        eventually(kept, what="observed.json is up to date")

    def replica_pids(self) -> dict[str, int]:
        """Pids of the replicas' processes by replica id, as the runtime wrote them down."""
        pids = {}
        for path in (self.state_dir / "replicas").glob("*.json"):
            with contextlib.suppress(FileNotFoundError):
                pids[path.stem] = msgspec.json.decode(path.read_bytes().split(b"\n", 1)[1])["pid"]
        return pids

    def close(self) -> None:
        for process in self.agents:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            process.wait()
        for state_dir in {self.state_dir, *self.root.glob("*/agent")}:
            if (state_dir / "replicas").is_dir():
                asyncio.run(stop_all(state_dir, grace_s=1.0))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    (tmp_path / "token").write_text("token-1\n")
    with FakeControlPlane() as plane:
        cluster = Cluster(root=tmp_path, plane=plane)
        try:
            yield cluster
        finally:
            cluster.close()
