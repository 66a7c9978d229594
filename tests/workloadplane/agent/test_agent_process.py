"""A real agent process with real simulated replicas, against a control plane and gateways over real sockets."""

import os
import signal
import subprocess
import sys
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.support.fake_control_plane import signed_again
from tests.support.records import usage_record
from tests.support.waiting import eventually
from tests.workloadplane.agent.conftest import DEPLOYMENT, REVISION, Cluster, assignment, lives
from workloadplane.protocol.desired import EngineSource
from workloadplane.protocol.refusal import Refusal
from workloadplane.protocol.spool import SpoolWriter

pytestmark = pytest.mark.slow


def test_an_enrolled_agent_starts_what_is_wanted_and_tells_both_sides(cluster: Cluster) -> None:
    """From a token in a file to a ready replica that gateways may use and the control plane knows of."""
    cluster.want(assignment())
    cluster.open_to("sk-agent-tests")
    cluster.start_agent()

    ready = cluster.until_ready(1)

    with cluster.gateway() as gateway:
        eventually(lambda: gateway.ready() == ready, what="the gateway may use the replica")
        assert gateway.identity is not None
        eventually(lambda: gateway.tables.keys() >= {"routing", "keyset"}, what="its tables")
        assert "desired" not in gateway.tables, "that is the agent's own"
    replica = cluster.plane.replicas[ready[0]]
    assert replica.engine == "simulator"
    phases = [replica.cold_start.weight_load_s, replica.cold_start.engine_start_s]
    assert sum(phase for phase in phases if phase is not None) > 0
    assert replica.cold_start.gpu_procurement_s is None


def test_a_killed_replica_is_withdrawn_and_replaced(cluster: Cluster) -> None:
    """kill -9: gateways learn of it, and another replica takes its place."""
    cluster.want(assignment())
    cluster.start_agent()
    (first,) = cluster.until_ready(1)
    with cluster.gateway() as gateway:
        eventually(lambda: gateway.ready() == [first])

        os.kill(cluster.replica_pids()[first], signal.SIGKILL)

        eventually(lambda: first not in gateway.ready(), what="the dead replica is withdrawn")
        (second,) = eventually(gateway.ready, what="a replacement is ready")
    assert second != first
    eventually(lambda: cluster.plane.replicas[first].state == "failed")


def test_a_restarted_agent_adopts_and_never_doubles(cluster: Cluster) -> None:
    """kill -9 of the agent leaves the replicas serving; the next agent takes over the same ones."""
    cluster.want(assignment(min_replicas=2, max_replicas=2))
    agent = cluster.start_agent()
    before = cluster.until_ready(2)
    cluster.until_kept(before)
    pids = cluster.replica_pids()
    cold_start = cluster.plane.replicas[before[0]].cold_start

    agent.kill()
    agent.wait()
    cluster.start_agent()

    eventually(lambda: len(cluster.plane.former_instances) == 2, what="the second instance has synced")
    with cluster.gateway() as gateway:
        eventually(lambda: gateway.heard_at)
        assert sorted(e.replica_id for e in gateway.heard_at[0][1].endpoints) == before
    assert cluster.until_ready(2) == before
    assert cluster.replica_pids() == pids
    assert cluster.plane.replicas[before[0]].cold_start == cold_start
    assert cluster.plane.cluster_epoch == 2


def test_with_the_control_plane_dead_an_agent_starts_from_its_disk(cluster: Cluster) -> None:
    """A restart without control plane serves, and still replaces a replica that dies."""
    cluster.want(assignment())
    agent = cluster.start_agent()
    (first,) = cluster.until_ready(1)
    cluster.until_kept([first])
    cluster.plane.close()
    agent.kill()
    agent.wait()

    cluster.start_agent()
    with cluster.gateway() as gateway:
        eventually(lambda: gateway.ready() == [first], what="served from the disk")
        assert gateway.identity is not None
        os.kill(cluster.replica_pids()[first], signal.SIGKILL)
        (second,) = eventually(
            lambda: ready if (ready := gateway.ready()) not in ([], [first]) else None,
            what="replaced without the control plane",
        )

    cluster.plane.open()
    eventually(lambda: cluster.in_state("ready") == [second], within_s=20)
    assert cluster.plane.replicas[first].state == "failed"


def test_a_replica_that_died_with_its_agent_is_replaced(cluster: Cluster) -> None:
    """What ended while nobody watched is reported as failed, and made up for."""
    cluster.want(assignment())
    agent = cluster.start_agent()
    (first,) = cluster.until_ready(1)
    cluster.until_kept([first])
    agent.kill()
    agent.wait()
    os.kill(cluster.replica_pids()[first], signal.SIGKILL)

    cluster.start_agent()

    eventually(lambda: cluster.plane.replicas[first].state == "failed")
    assert cluster.until_ready(1) != [first]


def test_two_agents_never_share_a_state_directory(cluster: Cluster) -> None:
    """The second says so in one line and ends with code 3."""
    cluster.start_agent()
    eventually((cluster.state_dir / "identity.json").exists)

    second = subprocess.run(cluster.command(), capture_output=True, text=True, timeout=20, check=False)

    assert second.returncode == 3
    assert second.stderr.count("\n") == 1
    assert "another agent" in second.stderr


def test_older_and_forged_tables_are_refused(cluster: Cluster) -> None:
    """Neither an older generation nor an unknown signer changes what runs; the next good table does."""
    old = cluster.want(assignment(min_replicas=1, max_replicas=1))
    newest = cluster.want(assignment(min_replicas=0, max_replicas=0)).generation
    cluster.start_agent()
    eventually(lambda: cluster.held_generation() == newest)

    cluster.plane.offer("desired", old)
    cluster.until_log("generation_rises")
    cluster.plane.offer("desired", signed_again(old, generation=newest + 1, key=Ed25519PrivateKey.generate()))
    cluster.until_log("envelope_signature")
    assert cluster.held_generation() == newest
    assert cluster.plane.replicas == {}

    cluster.plane.offer(
        "desired", signed_again(old, generation=newest + 2, key=cluster.plane.signer.private_key)
    )
    cluster.until_ready(1)


def test_a_plane_epoch_is_believed_of_signed_tables_alone(cluster: Cluster) -> None:
    """A number in an answer's body changes nothing; the same under a signature does, and is kept."""
    cluster.want(assignment(min_replicas=0, max_replicas=0))
    cluster.start_agent()
    eventually(lambda: cluster.held_generation() == 1)
    cluster.plane.plane_epoch = 9
    seen = len(cluster.plane.syncs)
    eventually(lambda: len(cluster.plane.syncs) >= seen + 3, what="it was told so several times")
    assert {sync.plane_epoch for sync in cluster.plane.syncs} == {1}
    cluster.want(assignment(min_replicas=0, max_replicas=0))
    eventually(lambda: cluster.plane.syncs[-1].plane_epoch == 9, what="the table was signed in it")


def test_an_incomplete_delta_is_fetched_whole(cluster: Cluster) -> None:
    """A table of which an entry is missing is asked for from generation 0."""
    cluster.plane.withheld_entries.add("assignment-1")
    cluster.want(assignment())
    cluster.start_agent()
    cluster.until_log("table_incomplete")
    cluster.plane.withheld_entries.clear()
    cluster.until_ready(1)


def test_a_superseded_agent_serves_on_and_starts_nothing(cluster: Cluster) -> None:
    """Refused by the control plane it keeps its replica, but replaces none that dies."""
    cluster.want(assignment())
    cluster.start_agent()
    (first,) = cluster.until_ready(1)
    with cluster.gateway() as gateway:
        eventually(lambda: gateway.ready() == [first])
        cluster.plane.refusal = Refusal(
            rule="superseded", subject="cluster_epoch", value="1", remedy="this cluster is held at epoch 2"
        )
        cluster.until_log("this agent does not hold its cluster")
        assert gateway.ready() == [first]
        os.kill(cluster.replica_pids()[first], signal.SIGKILL)
        eventually(lambda: gateway.ready() == [])
        cluster.until_log('"state": "failed"')
        assert cluster.replica_pids().keys() <= {first}

        cluster.plane.refusal = None
        cluster.until_ready(1, within_s=30)


def test_an_agent_whose_key_is_not_known_serves_on_and_starts_nothing(cluster: Cluster) -> None:
    """The cluster may have been given to another agent: this one keeps what runs, and replaces nothing."""
    cluster.want(assignment())
    cluster.start_agent()
    (first,) = cluster.until_ready(1)
    keys = list(cluster.plane.agent_keys)
    cluster.plane.agent_keys.clear()
    cluster.until_log("this agent does not hold its cluster")
    os.kill(cluster.replica_pids()[first], signal.SIGKILL)
    cluster.until_log('"state": "failed"')
    assert cluster.replica_pids().keys() <= {first}

    cluster.plane.agent_keys.extend(keys)
    cluster.until_ready(1, within_s=30)


def test_a_draining_replica_waits_for_gateway_and_requests(cluster: Cluster) -> None:
    """Deleting stops a replica only when the gateway has let go of it and its last request is done."""
    cluster.want(assignment())
    cluster.start_agent()
    (replica,) = cluster.until_ready(1)
    pid = cluster.replica_pids()[replica]
    with cluster.gateway(acknowledges=False) as gateway:
        eventually(lambda: gateway.ready() == [replica])
        gateway.report((DEPLOYMENT, REVISION, 1, 0), in_flight_by_replica={replica: 1})

        cluster.want()
        eventually(lambda: cluster.in_state("draining") == [replica])
        eventually(lambda: gateway.ready() == [], what="the gateway is told to send nothing more")
        cluster.until_syncs(1)
        assert lives(pid), "stopped before the gateway acknowledged"

        gateway.acknowledge()
        gateway.report((DEPLOYMENT, REVISION, 1, 0), in_flight_by_replica={replica: 1})
        cluster.until_syncs(1)
        assert lives(pid), "stopped with a request in flight"

        gateway.report((DEPLOYMENT, REVISION, 0, 0))
        eventually(lambda: cluster.in_state("stopped") == [replica])
    assert not lives(pid)


def test_scaling_up_again_recalls_what_still_drains(cluster: Cluster) -> None:
    """A replica that is finishing its requests is taken back into use; no other is started."""
    cluster.want(assignment(min_replicas=2, max_replicas=2))
    cluster.start_agent()
    both = cluster.until_ready(2)
    with cluster.gateway() as gateway:
        eventually(lambda: sorted(gateway.ready()) == both)
        gateway.report((DEPLOYMENT, REVISION, 2, 0), in_flight_by_replica=dict.fromkeys(both, 1))
        cluster.want(assignment(min_replicas=1, max_replicas=1))
        eventually(lambda: len(gateway.ready()) == 1, what="one drains")

        cluster.want(assignment(min_replicas=2, max_replicas=2))

        eventually(lambda: sorted(gateway.ready()) == both, what="it is recalled")
    assert cluster.until_ready(2) == both
    assert sorted(cluster.plane.replicas) == both


def test_from_zero_to_one_and_back(cluster: Cluster) -> None:
    """A waiting request starts a replica at once; when the load has gone the last one goes too."""
    cluster.want(assignment(min_replicas=0, autoscaling_window_s=2.0))
    cluster.start_agent()
    with cluster.gateway() as gateway:
        eventually(lambda: cluster.plane.conditions.get(("assignment-1", "Ready")))
        assert cluster.plane.replicas == {}

        gateway.report((DEPLOYMENT, REVISION, 0, 1))
        (replica,) = eventually(gateway.ready, within_s=5.0, what="woken")

        gateway.report((DEPLOYMENT, REVISION, 0, 0))
        eventually(lambda: cluster.in_state("stopped") == [replica], within_s=60.0)
        assert gateway.ready() == []


def test_load_adds_replicas_up_to_the_room_there_is(cluster: Cluster) -> None:
    """Scaled up by the gateways' load, held at the pool's capacity, with the reason why."""
    cluster.capacity_gpus = 2
    cluster.want(assignment(max_replicas=4))
    cluster.start_agent()
    cluster.until_ready(1)
    with cluster.gateway() as gateway:
        gateway.report((DEPLOYMENT, REVISION, 8, 0))
        cluster.until_ready(2)
        limited = eventually(lambda: cluster.plane.conditions.get(("assignment-1", "ScalingLimited")))
        assert limited.refusal.rule == "pool_capacity"
        assert not cluster.plane.conditions["assignment-1", "Degraded"].status


def test_a_new_policy_reaches_running_replicas(cluster: Cluster) -> None:
    """A policy is no revision: the same replica has the new concurrency target."""
    cluster.want(assignment(concurrency_target=2.0))
    cluster.start_agent()
    (replica,) = cluster.until_ready(1)
    cluster.want(assignment(concurrency_target=5.0))
    with cluster.gateway() as gateway:
        eventually(lambda: gateway.endpoints and gateway.endpoints.endpoints[0].concurrency_target == 5.0)
        assert gateway.ready() == [replica]


def test_usage_arrives_although_the_control_plane_was_away(cluster: Cluster) -> None:
    """What a gateway spooled while nobody could take it is delivered, and only then deleted."""
    cluster.start_agent()
    eventually(lambda: cluster.plane.syncs)
    cluster.plane.close()
    writer = SpoolWriter(cluster.root / "gateway" / "spool", "gateway-1")
    for _ in range(25):
        writer.append_usage(usage_record("gateway-1", writer.next_usage_sequence()))
    writer.close(0.0)

    cluster.plane.open()

    eventually(lambda: len(cluster.plane.usage) == 25, within_s=20)
    eventually(lambda: not (cluster.root / "gateway" / "spool" / "gateway-1").exists())


def test_a_replica_that_cannot_start_is_degraded_and_retried_ever_more_slowly(cluster: Cluster) -> None:
    """Crash back-off: below its minimum with a reason, and not restarted in a loop."""
    faulty = EngineSource(
        engine="simulator", version="1", image_digest="sha256:" + "1" * 64, arguments={"no_such": "argument"}
    )
    cluster.want(assignment(engine=faulty))
    cluster.start_agent()

    degraded = eventually(
        lambda: c if (c := cluster.plane.conditions.get(("assignment-1", "Degraded"))) and c.status else None
    )

    assert degraded.refusal.rule == "crash_back_off"
    assert "no_such" in degraded.message
    assert len(cluster.in_state("failed")) <= 4


def test_a_silent_replica_is_replaced(cluster: Cluster) -> None:
    """A process that lives and answers nothing is found out by its probes."""
    cluster.want(assignment())
    cluster.start_agent(hasty=True)
    (first,) = cluster.until_ready(1)
    os.kill(cluster.replica_pids()[first], signal.SIGSTOP)

    eventually(lambda: cluster.in_state("ready") not in ([], [first]), within_s=60.0, what="replaced")
    eventually(lambda: first not in cluster.plane.replicas, within_s=60.0, what="the old one is forgotten")


def test_a_replica_that_gateways_avoid_is_looked_at_sooner(cluster: Cluster) -> None:
    """What a gateway has seen shortens the agent's patience: replaced in a third of the usual time."""
    cluster.want(assignment())
    cluster.start_agent()
    (first,) = cluster.until_ready(1)
    with cluster.gateway() as gateway:
        eventually(lambda: gateway.heard_at)
        os.kill(cluster.replica_pids()[first], signal.SIGSTOP)
        gateway.report(ejected={first: "stuck"})

        eventually(lambda: first not in gateway.ready(), within_s=20.0, what="taken from the gateways")


def test_damaged_state_files_cost_nothing_that_runs(cluster: Cluster) -> None:
    """Torn and flipped files are passed over: the replica serves on, under the same id, and is reported again."""
    cluster.want(assignment())
    agent = cluster.start_agent()
    (replica,) = cluster.until_ready(1)
    cluster.until_kept([replica])
    agent.kill()
    agent.wait()
    torn = cluster.state_dir / "observed.json"
    torn.write_bytes(torn.read_bytes()[:-40])
    flipped = cluster.state_dir / "tables" / "desired.json"
    flipped.write_bytes(flipped.read_bytes().replace(b"signature", b"signaturf"))

    cluster.start_agent()

    with cluster.gateway() as gateway:
        eventually(lambda: gateway.heard_at)
        assert [e.replica_id for e in gateway.heard_at[0][1].endpoints] == [replica]
    eventually(lambda: len(cluster.plane.former_instances) == 2)
    assert cluster.until_ready(1) == [replica]
    assert len(cluster.replica_pids()) == 1


def test_a_damaged_identity_is_made_anew(cluster: Cluster) -> None:
    """What runs serves on; the agent says in one line what is wrong and what helps, and is itself again by a token."""
    cluster.want(assignment())
    agent = cluster.start_agent(hasty=True)
    (replica,) = cluster.until_ready(1)
    cluster.until_kept([replica])
    agent.kill()
    agent.wait()
    file = cluster.state_dir / "identity.json"
    file.write_bytes(file.read_bytes()[:-9])

    cluster.start_agent(hasty=True)

    with cluster.gateway() as gateway:
        eventually(lambda: gateway.heard_at)
        assert [e.replica_id for e in gateway.heard_at[0][1].endpoints] == [replica]
    cluster.until_log("the identity is damaged")
    cluster.until_log("put a new enrolment token into")
    cluster.plane.tokens.add("token-2")
    (cluster.root / "token").write_text("token-2")
    eventually(lambda: len(cluster.plane.former_instances) == 2, within_s=30, what="it is heard again")
    assert cluster.until_ready(1) == [replica]
    assert len(cluster.replica_pids()) == 1


def test_a_very_long_state_directory_is_no_obstacle(cluster: Cluster) -> None:
    """A unix socket's name is short; a gateway finds it all the same."""
    cluster.long_name = "a" * 120
    cluster.want(assignment())
    cluster.start_agent()
    cluster.until_ready(1)
    with cluster.gateway() as gateway:
        eventually(lambda: len(gateway.ready()) == 1)


def test_an_agent_that_is_told_to_stop_leaves_its_replicas(cluster: Cluster) -> None:
    """SIGTERM: code 0, replicas go on; stop-replicas then ends them all, and the next agent knows that it was meant."""
    cluster.want(assignment())
    agent = cluster.start_agent()
    (first,) = cluster.until_ready(1)
    cluster.until_kept([first])
    (pid,) = cluster.replica_pids().values()

    agent.terminate()
    assert agent.wait(timeout=10) == 0
    assert lives(pid)

    command = [
        sys.executable,
        "-m",
        "workloadplane.agent",
        "stop-replicas",
        "--state-dir",
        str(cluster.state_dir),
    ]
    stopped = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert stopped.stdout == "1 replica stopped\n"
    assert not lives(pid)

    cluster.start_agent()
    eventually(lambda: cluster.plane.replicas[first].state == "stopped", what="it is told as a planned stop")
    told = cluster.plane.replicas[first]
    assert (told.reason, told.message) == ("StopOrdered", "all replicas of its cluster were told to stop")
    assert told.stopped_at is not None and told.stopped_at < time.time()
    assert cluster.until_ready(1) != [first]


def test_a_new_token_makes_a_refused_agent_welcome_again(cluster: Cluster) -> None:
    """Fenced, it waits; a new token in the same file enrols it anew, with the same key."""
    cluster.start_agent(hasty=True)
    eventually(lambda: cluster.plane.syncs)
    cluster.plane.refusal = Refusal(rule="fenced", subject="instance_id", value="1", remedy="enrol one again")
    cluster.until_log("this agent does not hold its cluster")
    cluster.plane.tokens.add("token-2")
    (cluster.root / "token").write_text("token-2")

    eventually(lambda: "token-2" not in cluster.plane.tokens, within_s=30)
    cluster.plane.refusal = None
    cluster.until_log("holds the cluster again")
