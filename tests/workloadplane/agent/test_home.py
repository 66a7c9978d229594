"""The pace of the calls home: at once with news, every second without, and never in a tight loop."""

import os
import signal
import time

import pytest

from tests.support.records import usage_record
from tests.support.waiting import eventually
from tests.workloadplane.agent.conftest import Cluster, assignment
from workloadplane.protocol.spool import SpoolWriter

pytestmark = pytest.mark.slow


def seconds_for(cluster: Cluster, syncs: int) -> float:
    """How long the agent takes for so many more syncs."""
    began, wanted = time.monotonic(), len(cluster.plane.syncs) + syncs
    eventually(lambda: len(cluster.plane.syncs) >= wanted, within_s=30, what=f"{syncs} more syncs")
    return time.monotonic() - began


def test_an_idle_agent_is_heard_every_second(cluster: Cluster) -> None:
    """Often enough for its lease, and no more."""
    cluster.start_agent()
    eventually(lambda: cluster.plane.observed_generation)
    assert seconds_for(cluster, 3) >= 1.5
    assert all(sync.wait_s > 0 for sync in cluster.plane.syncs[-2:])


def test_what_is_not_acknowledged_is_repeated_with_patience(cluster: Cluster) -> None:
    """A control plane that hears and does not acknowledge is not flooded; nothing is lost by it."""
    cluster.plane.is_deaf = True
    writer = SpoolWriter(cluster.root / "gateway" / "spool", "gateway-1")
    writer.append_usage(usage_record("gateway-1", writer.next_usage_sequence()))
    writer.flush(0.0)
    cluster.start_agent()
    eventually(lambda: cluster.plane.usage_deliveries)
    assert seconds_for(cluster, 4) >= 2.0
    assert cluster.plane.usage_deliveries > 1
    cluster.plane.is_deaf = False
    eventually(lambda: not cluster.plane.syncs[-1].usage, what="acknowledged, it is sent no more")
    writer.close(0.0)


def test_news_is_told_before_the_poll_ends(cluster: Cluster) -> None:
    """A replica's death does not wait for the long poll."""
    cluster.want(assignment())
    cluster.start_agent()
    (replica,) = cluster.until_ready(1)
    seconds_for(cluster, 1)
    eventually(lambda: cluster.plane.syncs[-1].wait_s > 0, what="a long poll that has just begun")
    broke_in = cluster.plane.broke_in
    os.kill(cluster.replica_pids()[replica], signal.SIGKILL)
    eventually(lambda: cluster.in_state("failed") == [replica])
    assert cluster.plane.broke_in > broke_in


def test_a_control_plane_that_is_away_is_asked_ever_more_rarely(cluster: Cluster) -> None:
    """Back-off while it is away; heard again soon after it is back."""
    cluster.start_agent()
    eventually(lambda: cluster.plane.observed_generation)
    cluster.plane.close()
    eventually(lambda: (cluster.root / "agent.log").read_text().count("sync failed") >= 4, within_s=60)
    before = len(cluster.plane.syncs)
    cluster.plane.open()
    eventually(lambda: len(cluster.plane.syncs) > before, within_s=40)
