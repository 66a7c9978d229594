"""An hour without the control plane, on a simulated clock: what is decided and what is kept in a cluster meanwhile."""

import math
from collections import Counter
from pathlib import Path

from tests.support.fake_control_plane import CLUSTER_ID
from tests.support.records import usage_record
from tests.support.tables import Signer
from tests.workloadplane.agent.conftest import DEPLOYMENT, REVISION, assignment
from tests.workloadplane.agent.test_scaling import POOLS, supply
from tests.workloadplane.agent.test_tables import HEADER, identity
from workloadplane.agent.disk import StateDir
from workloadplane.agent.gateways import RevisionLoad
from workloadplane.agent.scaling import Scaling
from workloadplane.agent.tables import Tables
from workloadplane.protocol.spool import SpoolReader, SpoolWriter

HOUR_S = 3_600
TIDE_S = 900  # load comes and goes four times


def test_scaling_goes_on_inside_the_last_bounds(tmp_path: Path) -> None:
    """By the table that lies on the disk, which nobody renews: it follows the load up and down and leaves no bound."""
    signer = Signer()
    disk = StateDir(tmp_path / "agent")
    wanted = {
        "paid": assignment("paid", pool_id="reserved", min_replicas=1, max_replicas=3),
        "cheap": assignment("cheap", pool_id="spot", min_replicas=0, max_replicas=4),
    }
    disk.write_table(
        "desired", signer.table("desired", HEADER, dict(wanted), audience=CLUSTER_ID, generation=7)
    )
    tables = Tables(disk)
    tables.load(identity(signer))
    disk.close()
    assert tables.desired is not None
    scaling, counts = Scaling(None, now=0.0), {"paid": 1, "cheap": 0}
    seen: list[int] = []
    for now in range(0, HOUR_S, 2):
        concurrency = round(30 * (1 - math.cos(2 * math.pi * now / TIDE_S)) / 2)
        load = {(DEPLOYMENT, REVISION): RevisionLoad(in_flight=concurrency, waiting=0)}
        scaling.observe(tables.desired.assignments, load, now=float(now))
        counts = scaling.wanted(tables.desired.assignments, POOLS, supply(counts), {}, now=float(now))
        for name, count in counts.items():
            bounds = wanted[name].autoscaling
            assert bounds.min_replicas <= count <= bounds.max_replicas
        seen.append(sum(counts.values()))
    each = TIDE_S // 2
    for tide in range(4):
        part = seen[tide * each : (tide + 1) * each]
        assert max(part) == 7, "the load of a high tide takes all that is allowed"
        assert part[-1] == 1, "and leaves the minimum behind"


def test_an_hour_of_usage_arrives_once(tmp_path: Path) -> None:
    """Spooled on the disk while nobody acknowledges, over restarts of gateway and agent; afterwards each record is
    delivered at least once, and stored once by its instance and sequence.
    """
    written: Counter[tuple[str, int]] = Counter()
    writer = SpoolWriter(tmp_path, "gateway-0")
    for second in range(HOUR_S):
        if second == HOUR_S // 2:
            writer.close(float(second))  # the gateway is replaced
            writer = SpoolWriter(tmp_path, "gateway-1")
        record = usage_record(
            "gateway-0" if second < HOUR_S // 2 else "gateway-1", writer.next_usage_sequence()
        )
        writer.append_usage(record)
        writer.flush(float(second))
        written[record.gateway_instance, record.sequence] += 1
    assert SpoolReader(tmp_path).pending(100).usage == SpoolReader(tmp_path).pending(100).usage, (
        "nothing is taken"
    )

    stored: set[tuple[str, int]] = set()
    deliveries = 0
    reader = SpoolReader(tmp_path)
    while batch := reader.pending(500).usage:
        deliveries += 1
        stored |= {(record.gateway_instance, record.sequence) for record in batch}
        if deliveries % 3 == 1:
            reader = SpoolReader(tmp_path)  # the answer was lost, and the agent with it: delivered again
            continue
        for instance in {record.gateway_instance for record in batch}:
            newest = max(record.sequence for record in batch if record.gateway_instance == instance)
            reader.acknowledge(instance, usage_sequence=newest, window_sequence=0)
    assert stored == set(written)
    assert deliveries > HOUR_S // 500, "some of it came twice"
    writer.close(float(HOUR_S))
