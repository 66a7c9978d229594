"""What does a deployment's promise to survive cost?

The price is what the bill would fall by if all that stands there only for the promise were not there: the rent now,
less the rent of the cheapest subset of the deployment's own allocations that serves the demand planned for, with at
least ``min_replicas``, while nothing is lost (spot counted whole). Everything else stays as it is; a pool's reserved
GPUs are paid for anyway, so that only what is beyond them is rent. Sums over deployments that share a reservation err
high, for each is asked alone.

It is found as the dearest set that may go: a knapsack with two bounds (share and replicas), solved by branch and bound.
After ``MOST_NODES`` the best set so far counts (errs low); no realistic deployment comes near.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from controlplane.placement.judge.standing import TOLERANCE, Standing
from controlplane.placement.plan import PlacementPlan
from controlplane.placement.problem import PlacementProblem

MOST_NODES = 20_000


@dataclass(frozen=True, slots=True)
class _Group:
    """Equal replicas that are rented: each worth ``value`` micro-USD/h and ``share`` of the demand."""

    replicas: int
    share: float
    value: float

    @property
    def value_by_share(self) -> float:
        return self.value / self.share if self.share > 0 else float("inf")


def rented_gpus_by_pool(problem: PlacementProblem, plan: PlacementPlan) -> Mapping[str, int]:
    """Of a plan's rooms, the GPUs beyond each pool's reserved ones."""
    used: dict[str, int] = defaultdict(int)
    for entry in plan.deployments:
        for row in entry.allocations:
            used[row.pool_id] += row.room_replicas * row.gpus_per_replica
    return {
        pool_id: max(0, gpus - problem.tariff_by_pool[pool_id].reserved_gpus)
        for pool_id, gpus in used.items()
    }


def promise_price_micro_usd_per_h(
    problem: PlacementProblem, standing: Standing, rented_gpus: Mapping[str, int]
) -> int:
    """0 where nothing is promised, or where the demand is not served even now. ``rented_gpus``: of the whole plan."""
    if standing.deployment.survivability == "none":
        return 0
    groups: list[_Group] = []
    left = dict(rented_gpus)
    share = -1.0 + TOLERANCE
    replicas = -standing.replicas_needed
    whole = 0.0
    for part in standing.parts:
        row = part.allocation
        gpu_price = problem.tariff_by_pool[row.pool_id].instance_micro_usd_per_h / part.pool.gpus_per_instance
        rented = min(left[row.pool_id], row.room_replicas * row.gpus_per_replica)
        left[row.pool_id] -= rented
        if row.standby:
            whole += rented * gpu_price
            continue
        share += row.room_replicas * part.share_each
        replicas += row.room_replicas
        fully, partly = divmod(rented, row.gpus_per_replica)
        groups.append(_Group(fully, part.share_each, gpu_price * row.gpus_per_replica))
        groups.append(_Group(min(1, partly), part.share_each, gpu_price * partly))
    if share < 0 or replicas < 0:
        return 0
    paid = [group for group in groups if group.replicas and group.value > 0]
    paid.sort(key=lambda group: -group.value_by_share)
    return int(whole + _Search(paid).dearest(share, replicas))


class _Search:
    """Depth first, the dearest per share first, as many of each as may go; cut where even fractions gain nothing."""

    def __init__(self, groups: list[_Group]) -> None:
        self._groups = groups
        self._best = 0.0
        self._nodes = 0

    def dearest(self, share: float, replicas: int) -> float:
        self._descend(0, share, replicas, 0.0)
        return self._best

    def _descend(self, index: int, share: float, replicas: int, value: float) -> None:
        self._nodes += 1
        self._best = max(self._best, value)
        if index == len(self._groups) or self._nodes > MOST_NODES:
            return
        if value + self._bound(index, share, replicas) <= self._best * (1 + 1e-12):
            return
        group = self._groups[index]
        most = min(group.replicas, replicas)
        if group.share > 0:
            most = min(most, int(share / group.share))
        for taken in range(most, -1, -1):
            self._descend(
                index + 1, share - taken * group.share, replicas - taken, value + taken * group.value
            )

    def _bound(self, index: int, share: float, replicas: int) -> float:
        """Fractions allowed, and the bound on replicas left out."""
        bound = 0.0
        for group in self._groups[index:]:
            most = float(min(group.replicas, replicas))
            if group.share > 0:
                most = min(most, share / group.share)
            bound += most * group.value
            share -= most * group.share
        return bound
