"""The faults: what each does to which part, and what follows from it by the rules, whoever judges.

A fault is put where it happens: at a process (SIGKILL, SIGSTOP, one tenth of the time), at a socket (a proxy between
two parts), at a clock (its library), at a disk (a small file system), at an engine's own switches.
"""

from tests.faults.matrix.faults.answers import (
    error_agent,
    error_gateway,
    error_provider,
    error_region,
    error_replica,
)
from tests.faults.matrix.faults.files import (
    state_flipped,
    state_truncated,
    table_forged,
    table_stale,
)
from tests.faults.matrix.faults.machines import (
    clock_of_cluster,
    clock_of_control_plane,
    disk_full,
    disk_read_only,
)
from tests.faults.matrix.faults.processes import (
    adoption,
    freeze_agent,
    freeze_control_plane,
    freeze_gateway,
    freeze_provider,
    freeze_region,
    freeze_replica,
    kill_agent,
    kill_control_plane,
    kill_gateway,
    kill_provider,
    kill_region,
    kill_replica,
    slow_agent,
    slow_gateway,
    slow_provider,
    slow_region,
    slow_replica,
)
from tests.faults.matrix.faults.scene import Fault, Maker, Scene
from tests.faults.matrix.faults.ways import (
    partition_agent,
    partition_both_ways,
    partition_database,
    partition_one_way,
)

__all__ = ["ALONE", "CATALOGUE", "Fault", "Maker", "Scene"]

CATALOGUE: dict[str, tuple[Maker, ...]] = {
    "kill": (kill_replica, kill_agent, kill_gateway, kill_region, kill_provider, kill_control_plane),
    "freeze": (
        freeze_replica,
        freeze_agent,
        freeze_gateway,
        freeze_region,
        freeze_provider,
        freeze_control_plane,
    ),
    "slow": (slow_replica, slow_agent, slow_gateway, slow_region, slow_provider),
    "error": (error_replica, error_agent, error_gateway, error_region, error_provider),
    "partition": (partition_one_way, partition_both_ways, partition_agent, partition_database),
    "clock": (clock_of_cluster, clock_of_control_plane),
    "disk": (disk_full, disk_read_only),
    "state": (state_truncated, state_flipped, table_stale, table_forged),
}
#: Not one of the kinds that are paired.
ALONE: tuple[Maker, ...] = (adoption,)
