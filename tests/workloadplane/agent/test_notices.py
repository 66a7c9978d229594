"""A provider takes a pool back while agent, gateway and replicas run: real processes, clients over HTTP."""

import json
import time

import httpx
import pytest

from tests.support.waiting import eventually
from tests.workloadplane.agent.conftest import SPOT, Cluster, assignment
from tests.workloadplane.agent.test_with_gateway import HEADERS, KEY, SLOW, Stream, chat

pytestmark = pytest.mark.slow


def notice(cluster: Cluster, *, left_s: float) -> None:
    told = {"notices": [{"pool": "spot", "deadline_at": time.time() + left_s, "reason": "tests"}]}
    (cluster.state_dir / "notices.json").write_text(json.dumps(told))


def test_streams_of_a_pool_that_vanishes_are_handed_over(cluster: Cluster) -> None:
    """Told at once; new requests go elsewhere; streams go on where there is room; ended before the deadline; undone."""
    cluster.spot_gpus = 1
    cluster.open_to(KEY)
    spot = assignment("on-spot", pool_id=SPOT, min_replicas=1, max_replicas=1, engine=SLOW)
    cluster.want(spot)
    agent = cluster.start_agent()
    (leaving,) = cluster.until_ready(1)
    url = cluster.start_gateway()
    eventually(lambda: httpx.get(f"{url}/v1/models", headers=HEADERS).status_code == 200)
    stream = Stream(url, tokens=120)
    stream.start()
    eventually(lambda: len(stream.lines) > 2, what="the stream runs")
    cluster.want(spot, assignment(min_replicas=1, max_replicas=1, engine=SLOW))

    notice(cluster, left_s=6.0)
    eventually(lambda: cluster.in_state("draining") == [leaving], what="admission stops at once")
    told = [sync.observed.facts.notices for sync in cluster.plane.syncs if sync.observed]
    assert [(each.pool, each.node, each.reason) for each in told[-1]] == [("spot", None, "tests")]
    cluster.until_ready(1)
    answers = [chat(url).headers["x-meridian-replica"] for _ in range(3)]
    assert leaving not in answers

    eventually(lambda: cluster.in_state("stopped") == [leaving], what="it has ended")
    assert cluster.plane.replicas[leaving].reason == "Stopped"
    stream.join(timeout=30)
    assert stream.lines[-1] == "data: [DONE]"
    assert ": resumed" in stream.lines
    assert sum('"content"' in line for line in stream.lines) >= 120
    cluster.until_syncs(2)
    assert cluster.in_state("starting") == []

    agent.kill()
    agent.wait()
    cluster.start_agent()
    cluster.until_syncs(3)
    assert len(cluster.in_state("ready")) == 1, "an agent that starts anew knows it, too"
    (cluster.state_dir / "notices.json").unlink()
    cluster.until_ready(2)


def test_a_node_that_is_emptied_is_left_once_its_successor_is_ready(cluster: Cluster) -> None:
    """Within the pool, on the agent's own; the plane is told which machine holds what, and which is closed."""
    cluster.capacity_gpus = 2
    only = assignment(min_replicas=1, max_replicas=1)
    cluster.want(only)
    cluster.start_agent()
    (first,) = cluster.until_ready(1)

    def told() -> dict[str, tuple[bool, tuple[str, ...]]]:
        facts = [sync.observed.facts for sync in cluster.plane.syncs if sync.observed]
        return {node.name: (node.cordoned, node.replicas) for node in facts[-1].nodes}

    (on,) = [name for name, (_, replicas) in told().items() if first in replicas]
    (other,) = told().keys() - {on}
    cluster.cordoned = (on,)
    cluster.want(only)
    eventually(lambda: cluster.in_state("stopped") == [first], what="it has gone")
    (second,) = cluster.in_state("ready")
    eventually(lambda: told() == {on: (True, ()), other: (False, (second,))}, what="told")
    before, after = cluster.plane.replicas[first], cluster.plane.replicas[second]
    assert before.reason == "Stopped"
    assert after.ready_at is not None and before.stopped_at is not None
    assert after.ready_at <= before.stopped_at
