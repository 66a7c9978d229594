"""The agent that ships against the control plane that ships: one replica of the simulator, from a token to ready."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from apps.accounts.services import api_key_create
from apps.agents.models import AgentSession, LogWatch, Replica, ReplicaInterval, ServingSeat, YieldingCluster
from apps.agents.services import tables_compile
from apps.deployments.models import Deployment
from apps.placements.models import Assignment
from tests.apps.agents.world import ACTOR, assigned, compile_tables, fleet, placed, token_for
from tests.support.waiting import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@contextmanager
def real_agent(url: str, tmp_path: Path, token: str) -> Iterator[Path]:
    """An agent while the block runs, its replicas ended after it; its state directory."""
    (tmp_path / "token").write_text(token)
    state = tmp_path / "agent"
    command = [sys.executable, "-m", "workloadplane.agent", "--state-dir", str(state)]
    command += ["--gateway-state-dir", str(tmp_path / "gateway"), "--control-url", url]
    command += ["--gateway-url", "http://127.0.0.1:9", "--enrolment-token-file", str(tmp_path / "token")]
    command += ["--engines-dir", str(tmp_path / "engines"), "--cache-dir", str(tmp_path / "cache")]
    agent = subprocess.Popen(command, env=dict(os.environ))
    try:
        yield state
    finally:
        agent.send_signal(signal.SIGTERM)
        agent.wait(30)
        subprocess.run(
            [sys.executable, "-m", "workloadplane.agent", "stop-replicas", "--state-dir", str(state)],
            check=True,
            timeout=60,
        )


def test_the_agent_that_ships_is_understood(
    server: tuple[str, subprocess.Popen[bytes]],
    tmp_path: Path,
) -> None:
    """It enrols, runs what it is told, reports it ready and keeps its identity."""
    project = fleet()
    assignment = placed(project, "chat", "eu-west")
    with real_agent(server[0], tmp_path, token_for(project, "eu-west")):
        ready = Replica.objects.filter(state="ready", deployment=assignment.deployment)
        replica = eventually(ready.first, within_s=60, what="a ready replica")
        assert (replica.engine, replica.gone_at) == ("simulator", None)
        assert ReplicaInterval.objects.filter(ended_at=None).count() == 1
        session = AgentSession.objects.get()
        assert (session.cluster_epoch, session.facts["held_generations"]["desired"] > 0) == (1, True)


def test_the_command_follows_what_a_replica_logs(
    server: tuple[str, subprocess.Popen[bytes]],
    tmp_path: Path,
) -> None:
    """`meridian logs -f` prints a line that is logged while it follows, ^C ends it with 0; last words stay readable."""
    project = fleet()
    assignment = placed(project, "chat", "eu-west")
    key = api_key_create(actor=ACTOR, project_id=project.pk, name="reader", scopes=["deploy"])[1]
    environment = {**os.environ, "MERIDIAN_API_URL": server[0], "MERIDIAN_API_KEY": key}
    # Whoever runs the tests in the background has ^C ignored, and children inherit that.
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    program += "from meridian.cli.app import main; main()"
    command = [sys.executable, "-c", program, "logs", "chat"]
    with real_agent(server[0], tmp_path, token_for(project, "eu-west")) as state:
        ready = Replica.objects.filter(state="ready", deployment=assignment.deployment)
        replica = eventually(ready.first, within_s=60, what="a ready replica")
        log = next(state.rglob(f"{replica.pk}.log"))
        follower = subprocess.Popen([*command, "-f"], env=environment, stdout=subprocess.PIPE, text=True)
        said: list[str] = []
        assert follower.stdout is not None
        reader = threading.Thread(target=lambda: said.extend(follower.stdout or ()), daemon=True)
        reader.start()
        try:
            answered = LogWatch.objects.filter(answered_at__isnull=False)
            eventually(answered.exists, within_s=20, what="the agent delivers")
            with log.open("a") as engine:
                engine.write("said while somebody listens\n")
            eventually(
                lambda: "said while somebody listens\n" in said, within_s=20, what="the line is printed"
            )
            follower.send_signal(signal.SIGINT)
            assert follower.wait(20) == 0
        finally:
            follower.kill()
        assert said.count("said while somebody listens\n") == 1
        Assignment.objects.update(draining=True)
        tables_compile(cluster_ids=[replica.cluster_id])
        ended = Replica.objects.filter(pk=replica.pk, state__in=("stopped", "failed"))
        eventually(ended.exists, within_s=30, what="the replica has ended")
        options = ["--tail", "2000", "--replica", str(replica.pk)[:8]]
        done = subprocess.run(
            [*command, *options], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "said while somebody listens\n" in done.stdout


def test_a_live_region_yields_by_the_word_of_its_gateway(
    server: tuple[str, subprocess.Popen[bytes]],
    tmp_path: Path,
) -> None:
    """Nobody serves while its gateway is stopped; once that has taken the table the next region does."""
    project = fleet()
    former = placed(project, "chat", "eu-west", compiled=False)
    Deployment.objects.update(posture="active_passive")
    compile_tables(former.pool.cluster)
    with real_agent(server[0], tmp_path, token_for(project, "eu-west")) as state:
        command = [sys.executable, "-m", "workloadplane.gateway", "--agent-state-dir", str(state)]
        command += ["--state-dir", str(tmp_path / "gateway"), "--host", "127.0.0.1", "--port", "0"]
        eventually((state / "identity.json").exists, within_s=30, what="an enrolled agent")
        gateway = subprocess.Popen(command, env=dict(os.environ))
        try:
            eventually(lambda: _gateways_hold() > 0, within_s=60, what="the gateway holds a routing table")
            gateway.send_signal(signal.SIGSTOP)
            held = _gateways_hold()
            Assignment.objects.update(draining=True)
            assigned(former.revision, "us-east")
            needed = YieldingCluster.objects.get().generation
            eventually(lambda: _agent_holds() >= needed, within_s=30, what="the agent has taken the table")
            tables_compile(cluster_ids=[former.pool.cluster_id])
            assert (_gateways_hold(), _serving()) == (held, None), "its gateway may not have heard"
            gateway.send_signal(signal.SIGCONT)
            eventually(lambda: _serving() == "us-east", within_s=30, what="the next region serves")
        finally:
            gateway.kill()
            gateway.wait(30)


def _gateways_hold() -> int:
    generation: int = AgentSession.objects.get().facts.get("gateway_generations", {}).get("routing", 0)
    return generation


def _agent_holds() -> int:
    generation: int = AgentSession.objects.get().facts.get("held_generations", {}).get("routing", 0)
    return generation


def _serving() -> str | None:
    seat = ServingSeat.objects.select_related("serving").get()
    return seat.serving.name if seat.serving else None
