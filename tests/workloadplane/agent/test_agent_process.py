"""A real agent process with real simulated replicas, against a control plane and gateways over real sockets."""

import os
import signal

from tests.support.waiting import eventually
from tests.workloadplane.agent.conftest import Cluster, assignment


def test_an_enrolled_agent_starts_what_is_wanted_and_tells_both_sides(cluster: Cluster) -> None:
    """From a token in a file to a ready replica that gateways may use and the control plane knows of."""
    cluster.want(assignment())
    cluster.start_agent()

    ready = cluster.until_ready(1)

    with cluster.gateway() as gateway:
        eventually(lambda: gateway.ready() == ready, what="the gateway may use the replica")
        assert gateway.identity is not None
        assert "desired" in eventually(lambda: gateway.tables)
    replica = cluster.plane.replicas[ready[0]]
    assert replica.engine == "simulator"
    phases = [replica.cold_start.weight_load_s, replica.cold_start.engine_start_s]
    assert sum(phase for phase in phases if phase is not None) > 0
    assert replica.cold_start.gpu_procurement_s is None


def test_a_killed_replica_is_replaced_at_once(cluster: Cluster) -> None:
    """kill -9: gateways learn of it within moments, and another replica takes its place."""
    cluster.want(assignment())
    cluster.start_agent()
    (first,) = cluster.until_ready(1)
    with cluster.gateway() as gateway:
        eventually(lambda: gateway.ready() == [first])

        os.kill(cluster.replica_pids()[first], signal.SIGKILL)

        eventually(lambda: gateway.ready() == [], within_s=1.0, what="the dead replica is withdrawn")
        (second,) = eventually(gateway.ready, what="a replacement is ready")
    assert second != first
    eventually(lambda: cluster.plane.replicas[first].state == "failed")
