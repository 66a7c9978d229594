"""The agent that ships against the control plane that ships: one replica of the simulator, from a token to ready."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from apps.agents.models import AgentSession, Replica, ReplicaInterval
from tests.apps.agents.world import fleet, placed, token_for
from tests.support.waiting import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


def test_the_agent_that_ships_is_understood(
    server: tuple[str, subprocess.Popen[bytes]],
    tmp_path: Path,
) -> None:
    """It enrols, runs what it is told, reports it ready and keeps its identity."""
    url, _ = server
    project = fleet()
    assignment = placed(project, "chat", "eu-west")
    (tmp_path / "token").write_text(token_for(project, "eu-west"))
    state = tmp_path / "agent"
    command = [sys.executable, "-m", "workloadplane.agent", "--state-dir", str(state)]
    command += ["--gateway-state-dir", str(tmp_path / "gateway"), "--control-url", url]
    command += ["--gateway-url", "http://127.0.0.1:9", "--enrolment-token-file", str(tmp_path / "token")]
    command += ["--engines-dir", str(tmp_path / "engines"), "--cache-dir", str(tmp_path / "cache")]
    agent = subprocess.Popen(command, env=dict(os.environ))
    try:
        ready = Replica.objects.filter(state="ready", deployment=assignment.deployment)
        replica = eventually(ready.first, within_s=60, what="a ready replica")
        assert (replica.engine, replica.gone_at) == ("simulator", None)
        assert ReplicaInterval.objects.filter(ended_at=None).count() == 1
        session = AgentSession.objects.get()
        assert (session.cluster_epoch, session.facts["held_generations"]["desired"] > 0) == (1, True)
    finally:
        agent.send_signal(signal.SIGTERM)
        agent.wait(30)
        subprocess.run(
            [sys.executable, "-m", "workloadplane.agent", "stop-replicas", "--state-dir", str(state)],
            check=True,
            timeout=60,
        )
