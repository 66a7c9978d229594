"""Agent, gateway and simulated replicas together, all real processes; clients over HTTP."""

import os
import signal
import threading

import httpx
import pytest

from tests.support.waiting import eventually
from tests.workloadplane.agent.conftest import Cluster, assignment
from workloadplane.protocol.desired import EngineSource

pytestmark = pytest.mark.slow

KEY = "sk-agent-tests"
HEADERS = {"authorization": f"Bearer {KEY}"}
SLOW = EngineSource(
    engine="simulator",
    version="1",
    image_digest="sha256:" + "1" * 64,
    arguments={"decode_step_s": "0.05", "mean_output_tokens": "100"},
)


def chat(url: str, *, max_tokens: int = 5, timeout_s: float = 30.0) -> httpx.Response:
    body = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": max_tokens}
    return httpx.post(f"{url}/v1/chat/completions", json=body, headers=HEADERS, timeout=timeout_s)


class Stream(threading.Thread):
    """A streamed completion of a known length, read to its end by a thread."""

    def __init__(self, url: str, tokens: int) -> None:
        super().__init__(daemon=True)
        self.lines: list[str] = []
        self._url = url
        self._tokens = tokens

    def run(self) -> None:
        body = {
            "model": "chat",
            "messages": [{"role": "user", "content": "Tell me a story"}],
            "max_tokens": self._tokens,
            "stream": True,
            "ignore_eos": True,
        }
        with httpx.stream(
            "POST", f"{self._url}/v1/chat/completions", json=body, headers=HEADERS, timeout=60
        ) as response:
            self.lines.extend(line for line in response.iter_lines() if line)


def test_a_request_wakes_a_deployment_from_zero(cluster: Cluster) -> None:
    """Held while a replica starts, then answered; nothing is lost, and the load is seen to be gone again."""
    cluster.open_to(KEY)
    cluster.want(assignment(min_replicas=0, autoscaling_window_s=2.0))
    cluster.start_agent()
    url = cluster.start_gateway()
    eventually(lambda: httpx.get(f"{url}/v1/models", headers=HEADERS).status_code == 200)

    answer = chat(url)

    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"]
    assert len(cluster.in_state("ready")) == 1
    eventually(lambda: cluster.plane.usage, what="usage has arrived")
    eventually(lambda: len(cluster.in_state("stopped")) == 1, within_s=40, what="scaled to zero again")
    assert chat(url).status_code == 200


def test_deleting_lets_a_running_stream_end(cluster: Cluster) -> None:
    """The replica is stopped after the stream's last token, and not while it runs."""
    cluster.open_to(KEY)
    cluster.want(assignment(engine=SLOW))
    cluster.start_agent()
    (replica,) = cluster.until_ready(1)
    url = cluster.start_gateway()
    eventually(lambda: chat(url).status_code == 200)
    stream = Stream(url, tokens=60)
    stream.start()
    eventually(lambda: len(stream.lines) > 2, what="the stream runs")

    cluster.want()
    eventually(lambda: cluster.in_state("draining") == [replica])
    assert stream.is_alive(), "the drain began while the stream ran"
    stream.join(timeout=30)

    assert stream.lines[-1] == "data: [DONE]"
    assert sum('"content"' in line for line in stream.lines) >= 60
    eventually(lambda: cluster.in_state("stopped") == [replica], within_s=20)


def test_requests_are_answered_while_agent_and_replica_die(cluster: Cluster) -> None:
    """With the agent dead and then a replica too, the gateway serves from the other; both come back."""
    cluster.open_to(KEY)
    cluster.want(assignment(min_replicas=2, max_replicas=2))
    agent = cluster.start_agent()
    replicas = cluster.until_ready(2)
    url = cluster.start_gateway()
    eventually(lambda: chat(url).status_code == 200)

    agent.kill()
    agent.wait()
    assert chat(url).status_code == 200
    os.kill(cluster.replica_pids()[replicas[0]], signal.SIGKILL)
    assert [chat(url).status_code for _ in range(5)] == [200] * 5

    cluster.start_agent()
    eventually(lambda: len(set(cluster.in_state("ready")) - {replicas[0]}) == 2, within_s=30)
    assert chat(url).status_code == 200
