"""Stopping all replicas of a cluster whose agent is down, and leaving word that this was meant.

The word is written before anything is stopped: whatever happens then, the next agent finds replicas that were told
to stop, and says so, instead of replicas that died behind its back.
"""

import time
from pathlib import Path

import msgspec

from workloadplane.agent.disk import StateDir
from workloadplane.health.replica import ENDED
from workloadplane.protocol.observed import ObservedReplica
from workloadplane.runtimes.process import stop_all

STOP_ORDERED = "StopOrdered"
_MESSAGE = "all replicas of its cluster were told to stop"


async def stop_on_purpose(state_dir: Path) -> int:
    """End every replica of an agent's state directory; how many there were.

    Raises StateDirBusyError or RuntimeBusyError while an agent lives, and OSError when the disk refuses.
    """
    disk = StateDir(state_dir)
    try:
        observed = disk.read_observed()
        if observed is not None:
            now = time.time()
            replicas = tuple(_ordered(replica, now) for replica in observed.replicas)
            disk.write_observed(msgspec.structs.replace(observed, replicas=replicas))
        return await stop_all(state_dir)
    finally:
        disk.close()


def _ordered(replica: ObservedReplica, now: float) -> ObservedReplica:
    if replica.state in ENDED:
        return replica
    return msgspec.structs.replace(
        replica, state="draining", phase=None, reason=STOP_ORDERED, message=_MESSAGE, stopped_at=now
    )
