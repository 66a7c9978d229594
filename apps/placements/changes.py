"""What a plan changes: entries compared with what is in force. Pure; reads and writes nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from controlplane.placement import Allocation, CurrentAssignment, DeploymentPlan, PlacementProblem
from controlplane.placement.capacity import Ledger

#: Where replicas of a revision run: (revision id, pool id).
Place = tuple[str, str]


@dataclass(frozen=True)
class EntryChange:
    """What adopting one deployment's entry does: places to add, whose bounds change, and to give up."""

    entry: DeploymentPlan
    added: tuple[Allocation, ...]
    rebounded: tuple[Allocation, ...]
    dropped: tuple[CurrentAssignment, ...]

    @property
    def changes_assignments(self) -> bool:
        return bool(self.added or self.rebounded or self.dropped)

    @property
    def pool_ids_needed(self) -> set[str]:
        """Pools in which room is taken that was not taken before."""
        return {row.pool_id for row in (*self.added, *self.rebounded)}


def entry_change(problem: PlacementProblem, entry: DeploymentPlan) -> EntryChange:
    """Compare one entry with what the problem says is in force."""
    current = {(row.revision_id, row.pool_id): row for row in problem.current_of(entry.deployment_id)}
    wanted = {(row.revision_id, row.pool_id): row for row in entry.allocations}
    return EntryChange(
        entry=entry,
        added=tuple(row for place, row in wanted.items() if place not in current),
        rebounded=tuple(
            row
            for place, row in wanted.items()
            if place in current and not _equal_bounds(row, current[place])
        ),
        dropped=tuple(row for place, row in current.items() if place not in wanted),
    )


def _equal_bounds(wanted: Allocation, current: CurrentAssignment) -> bool:
    return (wanted.min_replicas, wanted.max_replicas, wanted.gpus_per_replica) == (
        current.min_replicas,
        current.max_replicas,
        current.gpus_per_replica,
    )


def that_fit(problem: PlacementProblem, changes: Sequence[EntryChange], adoptable: Iterable[str]) -> set[str]:
    """Which of the ``adoptable`` deployments (ids) fit into the pools beside all that is not adopted.

    A plan may give one deployment the room that another leaves; if the other's part is not adopted, that room is not
    there. Parts that give room are counted first.
    """
    candidates = set(adoptable)
    ledger = Ledger(problem.pools)
    changing = {change.entry.deployment_id: change for change in changes}
    for row in problem.current:
        ledger.add(row.pool_id, row.gpus_per_replica, row.min_replicas)
    for occupancy in problem.occupancies:
        if occupancy.deployment_id not in candidates:  # its own successor may take that room over
            ledger.add(occupancy.pool_id, occupancy.gpus_per_replica, occupancy.replicas)
    fitting: set[str] = set()
    for change in sorted(
        (changing[deployment_id] for deployment_id in candidates), key=lambda change: len(change.added)
    ):
        before = problem.current_of(change.entry.deployment_id)
        for row in before:
            ledger.add(row.pool_id, row.gpus_per_replica, -row.min_replicas)
        if _take(ledger, change.entry.allocations):
            fitting.add(change.entry.deployment_id)
        else:
            for row in before:
                ledger.add(row.pool_id, row.gpus_per_replica, row.min_replicas)
    return fitting


def _take(ledger: Ledger, allocations: Sequence[Allocation]) -> bool:
    """Take room for all of them, or for none."""
    for index, row in enumerate(allocations):
        if ledger.headroom(row.pool_id, row.gpus_per_replica) < row.min_replicas:
            for taken in allocations[:index]:
                ledger.add(taken.pool_id, taken.gpus_per_replica, -taken.min_replicas)
            return False
        ledger.add(row.pool_id, row.gpus_per_replica, row.min_replicas)
    return True
