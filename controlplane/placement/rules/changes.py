"""What a plan changes: entries compared with what is in force."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from controlplane.placement.plan import Allocation, DeploymentPlan
from controlplane.placement.problem import PlacementProblem
from controlplane.placement.rules.capacity import Ledger
from controlplane.placement.rules.occupancy import beyond_successors
from controlplane.placement.supply import CurrentAssignment, Occupancy

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


def entry_change(
    problem: PlacementProblem, entry: DeploymentPlan, *, standing_by: Collection[Place]
) -> EntryChange:
    """Compare one entry with what the problem says is in force.

    ``standing_by``: places that stand by as they were told last. The problem knows better where a failure has promoted
    one of them; a plan that follows it tells them.
    """
    current = {(row.revision_id, row.pool_id): row for row in problem.current_of(entry.deployment_id)}
    wanted = {(row.revision_id, row.pool_id): row for row in entry.allocations}
    return EntryChange(
        entry=entry,
        added=tuple(row for place, row in wanted.items() if place not in current),
        rebounded=tuple(
            row
            for place, row in wanted.items()
            if place in current
            and (not _equal_bounds(row, current[place]) or row.standby != (place in standing_by))
        ),
        dropped=tuple(row for place, row in current.items() if place not in wanted),
    )


def _equal_bounds(wanted: Allocation, current: CurrentAssignment) -> bool:
    names = ("min_replicas", "planned_replicas", "max_replicas", "gpus_per_replica", "standby")
    return all(getattr(wanted, name) == getattr(current, name) for name in names)


def that_fit(problem: PlacementProblem, changes: Sequence[EntryChange], adoptable: Iterable[str]) -> set[str]:
    """Which of the ``adoptable`` deployments (ids) fit into the pools beside all that is not adopted.

    A plan may give one deployment the room that another leaves; if the other's part is not adopted, that room is not
    there. All are tried together, so that two may change places; who finds no room is left out, and the rest is tried
    again, until those that are left fit.
    """
    entries = {change.entry.deployment_id: change.entry for change in changes}
    fitting = set(adoptable)
    while fitting:
        ledger = _beside(problem, {deployment_id: entries[deployment_id] for deployment_id in fitting})
        cramped = {
            deployment_id for deployment_id in sorted(fitting) if not _take(ledger, entries[deployment_id])
        }
        if not cramped:
            return fitting
        fitting -= cramped
    return fitting


def _beside(problem: PlacementProblem, adopted: Mapping[str, DeploymentPlan]) -> Ledger:
    """What all others hold, and what is on its way out anywhere, before the adopted entries take their room."""
    ledger = Ledger(problem.pools)
    successors: dict[str, list[CurrentAssignment | Allocation]] = {}
    for row in problem.current:
        if row.deployment_id not in adopted:
            ledger.add(row.pool_id, row.gpus_per_replica, row.room_replicas)
            successors.setdefault(row.deployment_id, []).append(row)
    for deployment_id, entry in adopted.items():
        successors[deployment_id] = list(entry.allocations)
    outgoing: dict[str, list[Occupancy]] = {}
    for occupancy in problem.occupancies:
        outgoing.setdefault(occupancy.deployment_id, []).append(occupancy)
    for deployment_id, occupancies in outgoing.items():
        own = successors.get(deployment_id, ())
        for pool_id, gpus_per_replica, replicas in beyond_successors(occupancies, own):
            ledger.add(pool_id, gpus_per_replica, replicas)
    return ledger


def _take(ledger: Ledger, entry: DeploymentPlan) -> bool:
    """Take all the room that an entry keeps, or none."""
    for index, row in enumerate(entry.allocations):
        if ledger.headroom(row.pool_id, row.gpus_per_replica) < row.room_replicas:
            for taken in entry.allocations[:index]:
                ledger.add(taken.pool_id, taken.gpus_per_replica, -taken.room_replicas)
            return False
        ledger.add(row.pool_id, row.gpus_per_replica, row.room_replicas)
    return True
