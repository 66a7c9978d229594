"""What is on its way out, and who may count on its room.

A deployment's own successor takes over, one by one, the GPUs that the predecessor leaves in the same pool: so much of
an occupancy is no further burden. While both still run, a pool is fuller than this says; its agent then lets the
successor wait. For everybody else the whole occupancy counts until it is over; but not for those to whom a plan in
force has promised that very room (``promised_first``).
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

from controlplane.placement.plan import Allocation
from controlplane.placement.problem import PlacementProblem
from controlplane.placement.rules.capacity import Ledger
from controlplane.placement.supply import CurrentAssignment, Occupancy


def beyond_successors(
    occupancies: Iterable[Occupancy], successors: Iterable[CurrentAssignment | Allocation]
) -> Iterator[tuple[str, int, int]]:
    """(pool id, GPUs per replica, replicas) that one deployment's outgoing replicas hold beyond its successors."""
    taken_over: dict[str, int] = {}
    for row in successors:
        gpus = row.room_replicas * row.gpus_per_replica
        taken_over[row.pool_id] = taken_over.get(row.pool_id, 0) + gpus
    for occupancy in occupancies:
        left = taken_over.get(occupancy.pool_id, 0)
        swapped = min(occupancy.replicas, left // occupancy.gpus_per_replica)
        if swapped:
            taken_over[occupancy.pool_id] = left - swapped * occupancy.gpus_per_replica
        if occupancy.replicas > swapped:
            yield occupancy.pool_id, occupancy.gpus_per_replica, occupancy.replicas - swapped


def outgoing(problem: PlacementProblem) -> Iterator[tuple[str, int, int]]:
    """(pool id, GPUs per replica, replicas) that are on their way out, beyond what now runs in their place."""
    by_deployment: dict[str, list[Occupancy]] = {}
    for occupancy in problem.occupancies:
        by_deployment.setdefault(occupancy.deployment_id, []).append(occupancy)
    for deployment_id, rows in by_deployment.items():
        yield from beyond_successors(rows, problem.current_of(deployment_id))


def promised_first(problem: PlacementProblem) -> PlacementProblem:
    """The problem without what is on its way out from room that a plan in force has promised to others already.

    They wait there for that room. Did it count as taken, the next plan would send them elsewhere.
    """
    if not problem.occupancies:
        return problem
    ledger = Ledger(problem.pools)
    succeeded = Counter[tuple[str, str]]()
    for row in problem.current:
        ledger.add(row.pool_id, row.gpus_per_replica, row.room_replicas)
        succeeded[row.deployment_id, row.pool_id] += row.room_replicas * row.gpus_per_replica
    counted = []
    for gone in problem.occupancies:
        place = (gone.deployment_id, gone.pool_id)
        swapped = min(gone.replicas, succeeded[place] // gone.gpus_per_replica)
        succeeded[place] -= swapped * gone.gpus_per_replica
        room = max(0, ledger.headroom(gone.pool_id, gone.gpus_per_replica))
        beyond = min(gone.replicas - swapped, room)
        ledger.add(gone.pool_id, gone.gpus_per_replica, beyond)
        if swapped + beyond:
            counted.append(replace(gone, replicas=swapped + beyond))
    return replace(problem, occupancies=tuple(counted))
